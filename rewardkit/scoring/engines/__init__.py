"""The engines that score a file: local processes, or Ray."""
