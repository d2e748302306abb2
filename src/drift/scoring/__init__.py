"""Scorers: (prompt, completion) -> how good. A scorer ranks replies and gives pairs their margins. Training never
runs a scorer: it sees only the pairs that the scores selected."""

from drift.scoring.stage import score_replies

__all__ = ["score_replies"]
