"""The program in a completion: where it starts and ends, and what is put before it."""
