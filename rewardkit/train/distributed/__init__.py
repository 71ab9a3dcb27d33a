"""Training in several processes: collectives, sharded weights, and failures that end all processes."""
