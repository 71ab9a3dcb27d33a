"""Metrics, monitors, loggers and the console of a training run."""
