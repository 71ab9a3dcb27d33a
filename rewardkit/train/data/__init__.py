"""Rows of training data to tokens."""
