"""Training that is long or large: several processes, checkpoints, and libraries that only some machines have."""
