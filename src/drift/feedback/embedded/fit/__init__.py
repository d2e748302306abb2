"""How the embedded labeller's weights are made: `python -m drift.feedback.embedded.fit`, deterministic."""
