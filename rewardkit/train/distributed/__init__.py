"""Several processes: collectives, divided weights, failures."""
