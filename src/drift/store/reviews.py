"""People's verdicts, in STORE/reviews.sqlite: on disk when the call returns. A review wins over every other label."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from drift.errors import DataError
from drift.records import FeedbackLabel, Verdict

FILE = "reviews.sqlite"
VERSION = "1"

_TABLES = """
CREATE TABLE IF NOT EXISTS reviews (
    number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT, conversation_id TEXT, reply_index INTEGER,
    user_index INTEGER, label TEXT, subtype TEXT, evidence TEXT, decided_at TEXT,
    UNIQUE (reviewer, conversation_id, reply_index) ON CONFLICT REPLACE);
CREATE TABLE IF NOT EXISTS preferences (
    number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT, run TEXT, pair_id TEXT, winner TEXT, decided_at TEXT,
    UNIQUE (reviewer, run, pair_id) ON CONFLICT REPLACE);
"""


@dataclass(frozen=True, slots=True)
class Review:
    """One person's verdict on a reply. `label` None: they skipped it."""

    reviewer: str
    conversation_id: str
    reply_index: int
    user_index: int | None
    label: Verdict | None
    subtype: str | None = None
    evidence: str | None = None
    decided_at: str = ""

    def as_label(self) -> FeedbackLabel | None:
        if self.label is None:
            return None
        return FeedbackLabel(
            self.conversation_id,
            self.reply_index,
            self.user_index,
            self.label,
            "review",
            VERSION,
            subtype=self.subtype,
            evidence=self.evidence,
        )


@dataclass(frozen=True, slots=True)
class ReviewedPreference:
    """Which reply of a pair a person preferred, without knowing which is the generated one. None: they skipped it."""

    reviewer: str
    run: str
    pair_id: str
    winner: Literal["chosen", "rejected", "tie"] | None
    decided_at: str = ""


Decision = TypeVar("Decision", Review, ReviewedPreference)
TABLES = {Review: "reviews", ReviewedPreference: "preferences"}


class Reviews:
    """The reviews of a store. Opening creates no file; a decision replaces that person's earlier one on the item."""

    def __init__(self, store: Path) -> None:
        self.path = store / FILE

    def add(self, decision: Review | ReviewedPreference) -> None:
        """Write a decision; it is on the disk when this returns."""
        columns = [column.name for column in fields(decision)]
        values = (*astuple(decision)[:-1], datetime.now(UTC).isoformat(timespec="milliseconds"))
        marks = ", ".join("?" * len(columns))
        with self._connection() as connection:
            connection.execute(f"INSERT INTO {TABLES[type(decision)]} ({', '.join(columns)}) VALUES ({marks})", values)

    def undo(self, kind: type[Decision], reviewer: str, run: str | None = None) -> Decision | None:
        """Delete this person's latest decision (on a run's pairs) and return it; None if there is none."""
        last = next(reversed(list(self.all(kind, reviewer, run))), None)
        if last is not None:
            with self._connection() as connection:
                connection.execute(
                    f"DELETE FROM {TABLES[kind]} WHERE number = "
                    f"(SELECT max(number) FROM {TABLES[kind]} WHERE reviewer = ?{' AND run = ?' if run else ''})",
                    (reviewer, run) if run else (reviewer,),
                )
        return last

    def all(self, kind: type[Decision], reviewer: str | None = None, run: str | None = None) -> Iterator[Decision]:
        """Yield decisions in the order in which they were made."""
        if not self.path.exists():
            return
        columns = ", ".join(column.name for column in fields(kind))
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {columns} FROM {TABLES[kind]} ORDER BY number").fetchall()
        for decision in (kind(*row) for row in rows):
            if reviewer in (None, decision.reviewer) and (run is None or getattr(decision, "run", None) == run):
                yield decision

    def labels(self) -> Iterator[FeedbackLabel]:
        """Yield the label of each reviewed reply: the latest verdict of any reviewer."""
        latest = {
            (review.conversation_id, review.reply_index): review
            for review in self.all(Review)
            if review.label is not None
        }
        for review in latest.values():
            label = review.as_label()
            if label is not None:
                yield label

    def forget(self, conversation_ids: set[str]) -> int:
        """Delete every review of these conversations; returns how many there were."""
        if not self.path.exists():
            return 0
        with self._connection() as connection:
            connection.execute("PRAGMA secure_delete = ON")  # their quotes must not stay on the file's free pages
            return sum(
                connection.execute("DELETE FROM reviews WHERE conversation_id = ?", (name,)).rowcount
                for name in conversation_ids
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_TABLES)
                yield connection
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path}: cannot read or write the reviews: {error}. Move the file away to go on without them."
            ) from None
