"""How far labels can be trusted: how many there are, how often they are right, and examples."""
