"""Columns of rows: which of them are the prompt, the completion and the fields of a rollout, in files of any shape."""
