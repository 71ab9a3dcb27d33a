"""Runs the tests of one program and describes their outcomes."""
