"""Conversations and labels on disk. Other rooms use what is listed here, mostly `Store`."""

from drift.store.forgotten import ForgetSummary, Forgotten
from drift.store.merging import AddSummary, MergedRange, merge_range
from drift.store.queries import StoreCounts
from drift.store.reviews import Review, ReviewedPreference, Reviews, shown_pair, shown_turn
from drift.store.rows import IdRange, Quarantined, Repeat
from drift.store.runs import ranges_for
from drift.store.store import Store, store_of
from drift.store.writer import PieceWriter, StoreWriter

__all__ = [
    "AddSummary",
    "ForgetSummary",
    "Forgotten",
    "IdRange",
    "MergedRange",
    "PieceWriter",
    "Quarantined",
    "Repeat",
    "Review",
    "ReviewedPreference",
    "Reviews",
    "Store",
    "StoreCounts",
    "StoreWriter",
    "merge_range",
    "ranges_for",
    "shown_pair",
    "shown_turn",
    "store_of",
]
