"""The host side of a sandbox: the pool of boxes and the connection to each."""
