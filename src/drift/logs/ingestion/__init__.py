"""Logs into a store: what becomes of each row (outcomes.py), in one process or in pieces (pieces.py)."""
