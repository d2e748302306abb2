"""Training over several processes, checkpoints in the middle of a stage, and checks of optional libraries."""
