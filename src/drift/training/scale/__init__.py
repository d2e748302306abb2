"""Training over several processes, and checks of optional libraries."""
