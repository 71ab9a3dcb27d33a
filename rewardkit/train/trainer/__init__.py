"""The training loops and what they keep."""
