"""Serves a composite reward over HTTP. Needs the extra ``serve``; importing this package alone loads nothing of it."""
