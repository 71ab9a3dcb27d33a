"""Rewards that call services, and the limits of such calls."""
