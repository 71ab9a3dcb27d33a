"""Training data: rows, preference pairs, token weights, tokenization and batching."""
