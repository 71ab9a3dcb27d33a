"""Verdicts, computed on the host from plain values and bytes."""
