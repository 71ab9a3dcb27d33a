"""What samples completions: one protocol, and the engines that follow it."""
