"""The built-in rollout engines."""
