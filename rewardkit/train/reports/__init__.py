"""HTML reports of training runs and evaluations."""
