"""People's verdicts, in STORE/reviews.sqlite: on disk when the call returns. A review wins over every other label."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from drift.endpoint.sources import without_marks
from drift.errors import DataError
from drift.records import ChatMessage, Conversation, FeedbackLabel, PreferencePair, Verdict, stable_hash
from drift.store.rows import write_labels

FILE = "reviews.sqlite"
VERSION = "1"
_FIRST_NUMBER = 1 << 62  # labels are numbered in the order of writing: reviews come after all of them

_REVIEWS = """CREATE TABLE IF NOT EXISTS reviews (
    number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT, conversation_id TEXT, reply_index INTEGER,
    user_index INTEGER, label TEXT, subtype TEXT, evidence TEXT, shown TEXT NOT NULL DEFAULT '', decided_at TEXT,
    UNIQUE (reviewer, conversation_id, reply_index) ON CONFLICT REPLACE)"""
_PREFERENCES = """CREATE TABLE IF NOT EXISTS preferences (
    number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT, run TEXT, pair_id TEXT, winner TEXT,
    shown TEXT NOT NULL DEFAULT '', decided_at TEXT,
    UNIQUE (reviewer, run, pair_id, shown) ON CONFLICT REPLACE)"""


@dataclass(frozen=True, slots=True)
class Review:
    """One person's verdict on a reply. `label` None: they skipped it.

    `shown`: of the reply and what the user wrote next (`shown_turn`), as the person read them; empty in files of
    earlier versions, and then the verdict holds for any words.
    """

    reviewer: str
    conversation_id: str
    reply_index: int
    user_index: int | None
    label: Verdict | None
    subtype: str | None = None
    evidence: str | None = None
    shown: str = ""
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
    """Which reply of a pair a person preferred, without knowing which is the generated one. None: they skipped it.

    `shown`: of the pair's texts (`shown_pair`), since a run that is made again has other texts under the same ids, and
    so has another run of this name; empty in files of earlier versions, and then it holds for any texts.
    """

    reviewer: str
    run: str
    pair_id: str
    winner: Literal["chosen", "rejected", "tie"] | None
    shown: str = ""
    decided_at: str = ""

    def is_about(self, shown: str) -> bool:
        """Whether these are the texts that it judged."""
        return self.shown in ("", shown)


Decision = TypeVar("Decision", Review, ReviewedPreference)
TABLES = {Review: "reviews", ReviewedPreference: "preferences"}
_NAMED_BY = {
    Review: ("reviewer", "conversation_id", "reply_index"),
    ReviewedPreference: ("reviewer", "run", "pair_id", "shown"),
}


class Reviews:
    """The reviews of a store. Opening creates no file; a decision replaces that person's earlier one on the item."""

    def __init__(self, store: Path) -> None:
        self.path = store / FILE

    def add(self, decision: Review | ReviewedPreference) -> None:
        """Write a decision; it is on the disk when this returns."""
        row = {name: getattr(decision, name) for name in _columns_of(type(decision))}
        row["decided_at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        marks = ", ".join("?" * len(row))
        with self._connection(writes=True) as connection:
            if isinstance(decision, ReviewedPreference) and decision.shown:  # it replaces one on any texts too
                _delete(connection, decision, shown="")
            table = TABLES[type(decision)]
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))

    def remove(self, decision: Review | ReviewedPreference) -> None:
        """Delete one decision."""
        with self._connection(writes=True) as connection:
            _delete(connection, decision)

    def all(self, kind: type[Decision], reviewer: str | None = None, run: str | None = None) -> Iterator[Decision]:
        """Yield decisions in the order in which they were made."""
        if not self.path.exists():
            return
        with self._connection() as connection:
            present = _columns_in(connection, TABLES[kind])
            columns = [name for name in _columns_of(kind) if name in present]
            query = f"SELECT {', '.join(columns)} FROM {TABLES[kind]} ORDER BY number"
            rows = connection.execute(query).fetchall()
        for decision in (kind(**dict(zip(columns, row, strict=True))) for row in rows):
            if reviewer in (None, decision.reviewer) and (run is None or getattr(decision, "run", None) == run):
                yield decision

    def forget(self, conversation_ids: set[str]) -> int:
        """Delete every review of these conversations; returns how many there were."""
        if not self.path.exists():
            return 0
        with self._connection() as connection:
            return sum(
                connection.execute("DELETE FROM reviews WHERE conversation_id = ?", (name,)).rowcount
                for name in conversation_ids
            )

    @contextmanager
    def _connection(self, writes: bool = False) -> Iterator[sqlite3.Connection]:
        """`writes`: rows that need the columns of this version."""
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA secure_delete = ON")  # quotes must not stay on the file's free pages
                connection.execute(_REVIEWS)
                connection.execute(_PREFERENCES)
                if writes:
                    connection.execute("BEGIN IMMEDIATE")
                    _add_columns(connection)
                yield connection
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path}: cannot read or write the reviews: {error}. Move the file away to go on without them."
            ) from None


def _columns_of(kind: type[Review] | type[ReviewedPreference]) -> list[str]:
    return [column.name for column in fields(kind)]


def _columns_in(connection: sqlite3.Connection, table: str) -> list[str]:
    return [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]


def _add_columns(connection: sqlite3.Connection) -> None:
    """To a file of an earlier version, whose decisions then hold for any words."""
    if "shown" not in _columns_in(connection, "reviews"):
        connection.execute("ALTER TABLE reviews ADD COLUMN shown TEXT NOT NULL DEFAULT ''")
    if "shown" not in (columns := _columns_in(connection, "preferences")):
        names = ", ".join(columns)
        connection.execute("ALTER TABLE preferences RENAME TO earlier")  # a column of the key needs another table
        connection.execute(_PREFERENCES)
        connection.execute(f"INSERT INTO preferences ({names}) SELECT {names} FROM earlier ORDER BY number")
        connection.execute("DROP TABLE earlier")


def _delete(connection: sqlite3.Connection, decision: Review | ReviewedPreference, **values: str) -> None:
    key = {name: values.get(name, getattr(decision, name)) for name in _NAMED_BY[type(decision)]}
    where = " AND ".join(f"{name} = ?" for name in key)
    connection.execute(f"DELETE FROM {TABLES[type(decision)]} WHERE {where}", tuple(key.values()))


def shown_turn(conversation: Conversation, reply_index: int, user_index: int | None) -> str:
    """16 hex digits for the words that a verdict on a reply is about: the reply, and what the user wrote next."""
    messages = conversation.messages
    places = [place for place in (reply_index, user_index) if place is not None and place < len(messages)]
    return stable_hash([_words(messages[place]) for place in places])


def shown_pair(pair: PreferencePair) -> str:
    """16 hex digits for the words that a verdict on a pair is about: the prompt and both replies."""
    return stable_hash(*([_words(message) for message in part] for part in (pair.prompt, pair.chosen, pair.rejected)))


def _words(message: ChatMessage) -> tuple[object, ...]:
    """What a person reads of a message. A call's id may differ between exports, and a store may still hold marks of
    sources that are taken out of what comes."""
    content = without_marks(message.content) if message.role == "assistant" else message.content
    return message.role, content, [(call.function.name, call.function.arguments) for call in message.tool_calls]


class PresentWords:
    """Tells which verdicts are still about words of the store. `look_up`: the conversations with these `ids`.

    Each turn is looked up once for a state of the store, since a page asks after each decision.
    """

    def __init__(self, look_up: Callable[..., Iterable[Conversation]]) -> None:
        self._look_up = look_up
        self._state: Sequence[str] = ()
        self._shown: dict[tuple[str, int, int | None], str] = {}

    def still_judged(self, reviews: Sequence[Review], state: Sequence[str]) -> list[Review]:
        """Those on present words, in their order. `state`: the store's files of conversations.

        A conversation that is not there contradicts nothing.
        """
        if state != self._state:
            self._state, self._shown = state, {}
        turns: dict[str, set[tuple[str, int, int | None]]] = {}
        for review in reviews:
            if review.shown and (turn := _turn(review)) not in self._shown:
                turns.setdefault(review.conversation_id, set()).add(turn)
        for conversation in self._look_up(ids=list(turns)) if turns else ():
            for turn in turns[conversation.conversation_id]:
                self._shown[turn] = shown_turn(conversation, *turn[1:])
        return [review for review in reviews if review.shown in ("", self._shown.get(_turn(review), review.shown))]


def _turn(review: Review) -> tuple[str, int, int | None]:
    return review.conversation_id, review.reply_index, review.user_index


def labels_of(reviews: Iterable[Review]) -> list[FeedbackLabel]:
    """The label of each reviewed reply: the latest verdict of any reviewer."""
    judged = (review for review in reviews if review.label is not None)
    latest = {(review.conversation_id, review.reply_index): review for review in judged}
    return [label for review in latest.values() if (label := review.as_label()) is not None]


@contextmanager
def with_labels(files: tuple[str, ...], labels: Sequence[FeedbackLabel]) -> Iterator[tuple[str, ...]]:
    """The files of labels and, in a temporary one, these labels of reviews."""
    if not labels:
        yield files
        return
    with tempfile.TemporaryDirectory(prefix="drift-reviews-") as folder:
        extra = Path(folder) / "reviews.parquet"
        write_labels(extra, labels, _FIRST_NUMBER)
        yield (*files, str(extra))
