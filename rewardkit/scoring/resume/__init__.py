"""Resuming an interrupted scoring run."""
