"""Conversations and labels on disk. Other rooms use what is listed here, mostly `Store`."""

from drift.store.forgotten import ForgetSummary, Forgotten
from drift.store.reviews import Review, ReviewedPreference, Reviews
from drift.store.rows import Quarantined, Repeat
from drift.store.store import Store, StoreCounts, first_store
from drift.store.writer import AddSummary, StoreWriter

__all__ = [
    "AddSummary",
    "ForgetSummary",
    "Forgotten",
    "Quarantined",
    "Repeat",
    "Review",
    "ReviewedPreference",
    "Reviews",
    "Store",
    "StoreCounts",
    "StoreWriter",
    "first_store",
]
