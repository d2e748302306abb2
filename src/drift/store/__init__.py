"""Conversations and labels on disk: `Store` is the door, everything else in this folder is behind it."""

from drift.store.rows import Quarantined
from drift.store.store import Store, StoreCounts
from drift.store.writer import AddSummary, StoreWriter

__all__ = ["AddSummary", "Quarantined", "Store", "StoreCounts", "StoreWriter"]
