"""Fits the embedded labeller's weights: `python -m drift.feedback.embedded.fit`, deterministic."""
