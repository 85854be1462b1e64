"""How fast, how small, how quick to start: measured against plain servers on the same machine in the same run."""
