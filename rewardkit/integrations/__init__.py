"""Adapters that let other trainers and evaluators use a composite reward. Each imports its peer only when it is used."""
