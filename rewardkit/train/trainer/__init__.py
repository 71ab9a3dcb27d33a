"""The training loops, and the run folder, checkpoints and optimisers that they share."""
