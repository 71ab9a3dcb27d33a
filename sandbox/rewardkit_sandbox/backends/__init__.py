"""Backends: where sandbox boxes come from, and the registry of backends."""
