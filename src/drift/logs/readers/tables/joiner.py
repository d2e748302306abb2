"""Join the rows of tables to conversations, wherever the rows of one stand.

The rows wait in an unnamed file. Of more than a batch of them, DuckDB holds four numbers each, finds the rows that
belong together, and spills to disk beyond its memory limit. A conversation stands in the order of time if each of its
rows has a time, else in the order of the rows. Rows of one time keep their order, reversed in a table that holds the
newest first: that is a property of the table, because a chat of one exchange may have a single time.
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import duckdb
import orjson
import pyarrow as pa

from drift.disk import open_tables
from drift.logs.draft import ConversationDraft, Evidence, last_reply, numbered, tags_of_all
from drift.logs.files.opening import Repair
from drift.logs.files.rows import MAX_ROW_BYTES, Place, Reject, encodable
from drift.logs.readers.tables.table import WRITTEN_STARS, TableRow
from drift.logs.traces.gathering import RowKey, first_of_each, repeated
from drift.logs.traces.stitching import MEMORY_LIMIT, Stitched
from drift.logs.traces.verdicts import MOST_STARS, value_of_stars
from drift.progress import report_note
from drift.records import Message, Rating, Reason, ToolCall, stable_hash, tool_calls_of

_ROWS_PER_BATCH = 20_000
_MAX_MESSAGES = 100_000  # of one conversation, as in trees
_DAY = 86_400  # seconds
_TURNS: dict[tuple[str | None, str | None], int] = {("user", "assistant"): 1, ("assistant", "user"): -1}
"""Of neighbouring rows. A chat that is not reversed has more of the first."""

_CONVERSATIONS = """
    SELECT conversation, number, place, size FROM (
        SELECT *, min(number) OVER (PARTITION BY conversation) AS first FROM rows)
    ORDER BY first, number"""


class _Waiting(NamedTuple):
    """A row in the file of texts. `number`: in the order in which the rows came."""

    conversation: int
    number: int
    place: int
    size: int


class TableJoiner:
    """Takes the rows of all tables, in any order, and joins them."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: for spilled data; by default the system's folder for temporary files."""
        self._spill = tempfile.TemporaryDirectory(prefix="drift-tables-", dir=folder)
        self._texts: BinaryIO = tempfile.TemporaryFile(dir=folder)  # type: ignore[assignment]  # noqa: SIM115
        self._tables: duckdb.DuckDBPyConnection | None = None
        self._waiting: list[_Waiting] = []
        self._count = itertools.count()
        self._place = 0
        self._scales: dict[str, _Scale] = {}
        self._orders: dict[str, _Order] = {}
        self._untimed = self._reversed = 0
        self.repairs: Counter[Repair] = Counter()
        """Chats that seem to stand the wrong way round, once all were joined."""

    def close(self) -> None:
        """Delete the temporary files."""
        if self._tables is not None:
            self._tables.close()
        self._texts.close()
        self._spill.cleanup()

    def add(self, row: TableRow, file: str) -> None:
        """Add a row of the table `file`."""
        number = next(self._count)
        self._orders.setdefault(encodable(file), _Order()).add(row)
        if (rating := row.rating) is not None and rating.scale is not None:
            self._scales.setdefault(rating.scale, _Scale()).add(rating)
        size = self._texts.write(orjson.dumps((encodable(file), row), default=list, option=orjson.OPT_APPEND_NEWLINE))
        key = f"row {number}" if row.conversation is None else f"id {row.conversation}"
        conversation = int(stable_hash(key), 16) - 2**63  # DuckDB's BIGINT has a sign
        self._waiting.append(_Waiting(conversation, number, self._place, size))
        self._place += size
        if len(self._waiting) >= _ROWS_PER_BATCH:
            self._flush()

    def finish(self) -> Stitched:
        """Join everything that was added."""
        return Stitched(self._outcomes(), merged=0, merged_rows=0)

    def _flush(self) -> None:
        if self._tables is None:
            self._tables = open_tables(MEMORY_LIMIT, self._spill.name)
            self._tables.execute("CREATE TABLE rows (conversation BIGINT, number BIGINT, place BIGINT, size BIGINT)")
        if self._waiting:
            batch = pa.table([*zip(*self._waiting, strict=True)], names=_Waiting._fields)  # noqa: F841 (DuckDB reads it)
            self._tables.execute("INSERT INTO rows SELECT * FROM batch")
            self._waiting.clear()

    def _stored(self) -> "Iterator[_Waiting]":
        """Yield all rows, those of one conversation together, in the order in which conversations began."""
        if self._tables is None:
            first: dict[int, int] = {}
            for row in self._waiting:
                first.setdefault(row.conversation, row.number)
            yield from sorted(self._waiting, key=lambda row: (first[row.conversation], row.number))
            return
        self._flush()
        for batch in self._tables.cursor().sql(_CONVERSATIONS).to_arrow_reader(1024):
            yield from itertools.starmap(_Waiting, zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def _outcomes(self) -> Iterator[ConversationDraft | Reject]:
        for _, group in itertools.groupby(self._stored(), key=attrgetter("conversation")):
            rows: list[tuple[TableRow, str]] = []
            size = count = 0
            for row in group:
                size, count = size + row.size, count + 1
                if not rows or (size <= MAX_ROW_BYTES and count <= _MAX_MESSAGES):
                    rows.append(self._load(row.place))
            yield from self._joined(rows, count)
        self._note_reversed()

    def _load(self, place: int) -> tuple[TableRow, str]:
        self._texts.seek(place)
        file, fields = orjson.loads(self._texts.readline())
        rating = fields["rating"]
        return TableRow(**{
            **fields,
            "at": Place(*fields["at"]),
            "messages": tuple(_message(message) for message in fields["messages"]),
            "rating": None if rating is None else Evidence(**{**rating, "at": Place(*rating["at"]), "about": ()}),
            "problem": None if fields["problem"] is None else (Reason(fields["problem"][0]), fields["problem"][1]),
        }), file  # fmt: skip

    def _joined(self, rows: list[tuple[TableRow, str]], count: int) -> Iterator[ConversationDraft | Reject]:
        """Yield the conversation of these rows, and its ratings that say nothing."""
        first, file = rows[0]
        bad = next(((row, place) for row, place in rows if row.problem), None)
        if len(rows) < count:
            detail = f"{count} rows in one conversation, more than {MAX_ROW_BYTES} bytes or {_MAX_MESSAGES} rows"
            yield Reject(first.at, Reason.TOO_LARGE, detail, rows=count, file=file)
        elif bad is not None:
            (row, file), (reason, detail) = bad, bad[0].problem or (Reason.BAD_CONTENT, "")
            yield Reject(row.at, reason, detail, rows=count, file=file)
        else:
            kept, repeats = _once(rows)
            ordered = _with_one_system(self._in_order(kept))
            ratings, rejects = self._ratings(ordered)
            draft = _draft([row for row, _ in ordered])
            yield replace(draft, at=first.at, ratings=ratings, rows=count - len(repeats), file=file)
            yield from rejects
            yield from repeats

    def _in_order(self, rows: list[tuple[TableRow, str]]) -> list[tuple[TableRow, str]]:
        """By time, if every row has one; rows of one time, and without times, as their table goes."""
        times = [row.order for row, _ in rows if row.order is not None]
        is_timed = len(times) == len(rows)
        later = sum(map(_step, times, times[1:])) if is_timed else 0
        given = rows[::-1] if later < 0 or (later == 0 and self._orders[rows[0][1]].is_newest_first) else rows
        ordered = sorted(given, key=lambda row: row[0].order or 0.0) if is_timed else given
        if len(rows) > 1 and not (is_timed and len(set(times)) > 1):
            self._untimed += 1
            self._reversed += (_speaker(ordered[0][0]), _speaker(ordered[-1][0])) == ("assistant", "user")
        return ordered

    def _note_reversed(self) -> None:
        """Where times do not tell the order, chats that begin with a reply and end with a request are suspicious."""
        if self._reversed * 2 > self._untimed:
            self.repairs[Repair.REPLY_FIRST] = self._reversed
            report_note(
                f"{self._reversed} of {self._untimed} chats, of which no times tell the order, begin with a reply and "
                "end with a request. If the newest row is first, map the times (--map time=COLUMN) or sort the table."
            )

    def _ratings(self, rows: Sequence[tuple[TableRow, str]]) -> tuple[tuple[Rating, ...], list[Reject]]:
        """The ratings of a conversation, and those that are about no reply or say neither good nor bad."""
        ratings: dict[Rating, None] = {}
        rejects: list[Reject] = []
        given = [(row.rating.value, row.rating.kind) for row, _ in rows if row.rating is not None]
        is_about_whole = (
            len(given) == len(rows) > 1 and len(set(given)) == 1 and any(row.rated is None for row, _ in rows)
        )
        size, last = 0, None
        places: list[tuple[Evidence, int | None, str]] = []
        for row, file in rows:
            before = last
            replies = [place for place, message in enumerate(row.messages) if message.role == "assistant"]
            last = size + replies[-1] if replies else last
            if row.rating is not None:
                places.append((row.rating, before if row.rated is None else size + row.rated, file))
            size += len(row.messages)
        if is_about_whole:  # the same on every row, also the user's: it is about the conversation, so its last reply
            places = [(places[-1][0], last, places[-1][2])]
        for rating, place, file in places:
            value = self._value(rating)
            if place is None:
                detail = "a rating beside a message without a reply before it"
                rejects.append(Reject(rating.at, Reason.ORPHAN_FEEDBACK, detail, rows=0, file=file))
            elif value is None:
                scale = self._scales[rating.scale or ""]
                detail = f"ratings from {scale.low:g} to {scale.high:g}: unknown whether high or low is good"
                rejects.append(Reject(rating.at, Reason.NO_VERDICT, detail, rows=0, file=file))
            else:
                judged = Rating(place, rating.kind, value, rating.comment, rating.preferred)
                ratings.pop(judged, None)  # of equal ones the last
                ratings[judged] = None
        return tuple(ratings), rejects

    def _value(self, rating: Evidence) -> float | None:
        """The rating between -1 and 1; None if its scale does not show which end is good."""
        if rating.scale is None:
            return rating.value
        scale, written = self._scales[rating.scale], self._scales.get(WRITTEN_STARS)
        beside_stars = written is not None and written is not scale and written.high > 1
        return scale.judged(rating.value, beside_stars)


class _Order:
    """Which way the rows of one table go, from neighbouring rows: those of one conversation by their times, which the
    roles must not contradict; if these times are all equal, the times of the table and the roles must both say it, and
    more conversations must seem to end with a request than with a reply: assistants may greet first."""

    def __init__(self) -> None:
        self._within = self._across = self._turns = self._ends = 0
        self._last: tuple[str | None, float | None, str | None] | None = None

    def add(self, row: TableRow) -> None:
        speaker = _speaker(row)
        if self._last is not None:
            conversation, order, before = self._last
            step = 0 if order is None or row.order is None else _step(order, row.order)
            if conversation is not None and conversation == row.conversation:
                self._within += step
                self._turns += _TURNS.get((before, speaker), 0)
            else:
                self._across += step
                self._ends += {"user": 1, "assistant": -1}.get(before or "", 0)
        self._last = row.conversation, row.order, speaker

    @property
    def is_newest_first(self) -> bool:
        is_backward = self._within < 0 or (
            self._within == 0 and self._across < 0 and self._turns < 0 and self._ends > 0
        )
        return is_backward and self._turns <= 0


def _step(before: float, after: float) -> int:
    """1 if time goes on, -1 if it goes back."""
    return (after > before) - (after < before)


def _speaker(row: TableRow) -> str | None:
    """The role of a row that is one message."""
    return row.messages[0].role if len(row.messages) == 1 else None


class _Scale:
    """All values of one column of ratings. What is good shows only from all of them."""

    def __init__(self) -> None:
        self.low, self.high = float("inf"), float("-inf")
        self._stars = False

    def add(self, rating: Evidence) -> None:
        self.low, self.high = min(self.low, rating.value), max(self.high, rating.value)
        self._stars |= rating.stars

    def judged(self, value: float, beside_stars: bool) -> float | None:
        """A value of this scale between -1 and 1; None if the scale does not show which end is good. `beside_stars`:
        these are plain numbers of a column that also holds written stars."""
        if self.low >= -1 and self.high <= 1 and (self.low < 0 or not beside_stars):
            if self._stars and self.low == 1:
                return None  # only ones: a single star, or a thumb up
            return value * 2 - 1 if self.low >= 0 else value
        have_stars = self._stars or beside_stars or (self.low >= 1 and self.high > 3)
        are_stars = self.low >= 0 and self.high <= MOST_STARS and have_stars
        return value_of_stars(value) if are_stars and value >= 1 else None


def _once(rows: list[tuple[TableRow, str]]) -> tuple[list[tuple[TableRow, str]], list[Reject]]:
    """The rows of a conversation without those that repeat another one, and these. The latest says how the message is
    rated and what its tags are."""
    if len(rows) == 1:
        return rows, []
    keys = [
        RowKey(file, None, stable_hash(row.own_id, row.order, row.messages), bool(row.own_id) or _has_hour(row))
        for row, file in rows
    ]
    kept: dict[int, tuple[TableRow, str]] = {}
    repeats: list[Reject] = []
    for (row, file), first in zip(rows, first_of_each(keys), strict=True):
        if first not in kept:
            kept[first] = row, file
            continue
        repeats.append(repeated(row.at, file))
        before = kept[first][0]
        before.tags |= row.tags
        if row.rating is not None:
            before.rating, before.rated = row.rating, row.rated
    return list(kept.values()), repeats


def _has_hour(row: TableRow) -> bool:
    """Whether a row has a time that tells it from others: the day alone does not."""
    return row.order is not None and row.order % _DAY != 0


def _with_one_system(rows: list[tuple[TableRow, str]]) -> list[tuple[TableRow, str]]:
    """Each exchange may repeat the system message of the conversation: it stands there once."""
    first = rows[0][0].messages
    system = first[0].content if first and first[0].role == "system" else None
    for row, _ in rows[1:] if system is not None else ():
        if len(row.messages) > 1 and (row.messages[0].role, row.messages[0].content) == ("system", system):
            row.messages = row.messages[1:]
            row.rated = None if row.rated is None else row.rated - 1
    return rows


def _draft(rows: Sequence[TableRow]) -> ConversationDraft:
    """The conversation of rows in order. What several rows name is the first row's, but the user is the one that a row
    of a user names, and the model the one that the last reply names."""
    first = rows[0]
    messages = [message for row in rows for message in row.messages]
    of_users = [row for row in rows if row.messages and row.messages[0].role in ("user", "system")]
    of_replies = [row for row in rows if last_reply(row.messages) is not None]
    return ConversationDraft(
        at=first.at,
        messages=numbered(messages),
        source_id=first.conversation or first.own_id,
        user=_first_of([*of_users, *rows], "user"),
        model=_first_of([*of_replies[::-1], *rows], "model"),
        language=_first_of(rows, "language"),
        started_at=_first_of(rows, "started_at"),
        chat_id=_first_of(rows, "session"),
        tags=tags_of_all(row.tags for row in rows),
        identity_until=None,
        of_rows=first.conversation is not None,
    )


def _first_of(rows: Sequence[TableRow], name: str) -> Any:
    return next((value for row in rows if (value := getattr(row, name)) is not None), None)


def _message(fields: dict[str, Any]) -> Message:
    calls: tuple[ToolCall, ...] = tool_calls_of(fields.pop("tool_calls", ()))
    return Message(**fields, tool_calls=calls)
