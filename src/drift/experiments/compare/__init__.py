"""`drift compare`: several recipes on the same simulated logs, measured by true utility."""
