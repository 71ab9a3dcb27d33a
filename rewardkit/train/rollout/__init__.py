"""Sampling completions and scoring them."""
