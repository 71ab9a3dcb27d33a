"""Checks of this machine and of the isolation that a sandbox gives."""
