"""Tools that examine rewards and what they scored."""
