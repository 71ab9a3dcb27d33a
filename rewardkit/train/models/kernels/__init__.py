"""The arithmetic on tiles of logits, by torch's own operations or by Triton."""
