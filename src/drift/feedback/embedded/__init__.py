"""The labeller that ships: features, weights, the script that fits them, and the phrase book it learns from."""
