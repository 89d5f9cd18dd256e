"""The supervisor of a worker command, and its child processes."""
