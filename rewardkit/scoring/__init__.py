"""Offline scoring: rows out of files, scored rows into a file, with nothing lost in between."""
