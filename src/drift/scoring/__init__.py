"""Scorers: (prompt, completion) -> how good. A scorer ranks replies and gives pairs their margins; it is no stage of
training, so nothing but its numbers gets there."""

from drift.scoring.stage import score_replies

__all__ = ["score_replies"]
