"""A look at a run's data before it starts."""
