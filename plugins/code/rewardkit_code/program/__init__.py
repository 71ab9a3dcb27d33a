"""Extracts the program from a completion, and prepends imports and helpers."""
