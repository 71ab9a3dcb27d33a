"""Sampling and scoring completions."""
