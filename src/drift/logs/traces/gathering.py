"""Rows that each hold one message or one exchange, gathered by the conversation that they belong to.

The rows of a conversation may stand anywhere in a file and in several files (the pages of an API, say). All rows wait
in an unnamed file; in memory there are only their places.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import eq
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import orjson

from drift.logs.convert import Outcome, consent_tags, many_per_row
from drift.logs.draft import ConversationDraft, seconds_of, tags_of_all
from drift.logs.files.opening import json_value
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.traces.stitching import Stitched
from drift.records import Reason, stable_hash

Entry = TypeVar("Entry")
GroupOf = Callable[[Mapping[str, Any]], str | None]
"""The conversation that a row belongs to; None for a row that is a conversation, or a judgement, by itself."""
IdOf = Callable[[Mapping[str, Any]], str | None]
"""The log's id of a row's message. Of rows with one id the latest counts."""
Read = Callable[[Iterable[LogRow | Reject]], Iterator[Any]]


class RowKey(NamedTuple):
    """What tells whether two rows of one conversation are the same: logs may hold dumps of each night, and pages that
    overlap. `name`: the log's id of the message; `content`: a hash of what the row holds, with its time, which
    only rows without a name need; `is_timed`: whether it has one."""

    file: str
    name: str | None
    content: str
    is_timed: bool = False


def first_of_each(rows: Sequence[RowKey]) -> list[int]:
    """For each row the place of the first one that is the same: its own place if it repeats none.

    Rows of one id are the same. Without ids, those with the same time and content are, of which one file may hold
    several. Without times a user may have written the same again: there, rows are the same only in two dumps of one
    chat, of which one file holds the beginning of the other and no more.
    """
    first: dict[tuple[str, str, int], int] = {}
    times: Counter[tuple[str, str]] = Counter()
    dumps = _dumps(rows)
    so_far: dict[str, str] = {}
    places: list[int] = []
    for place, row in enumerate(rows):
        if row.name is not None:
            key = "name", row.name, 0
        elif row.is_timed:
            times[row.file, row.content] += 1
            key = "timed", row.content, times[row.file, row.content]
        else:
            so_far[row.file] = stable_hash(so_far.get(row.file), row.content)
            key = "begins", so_far[row.file], dumps[row.file]
        places.append(first.setdefault(key, place))
    return places


def _dumps(rows: Sequence[RowKey]) -> dict[str, int]:
    """A number for the chat that each file is a dump of, by its rows without ids and times."""
    contents: dict[str, list[str]] = {}
    for row in rows:
        if row.name is None and not row.is_timed:
            contents.setdefault(row.file, []).append(row.content)
    chats: list[list[str]] = []
    numbers: dict[str, int] = {}
    for file, listed in contents.items():
        alike = (n for n, chat in enumerate(chats) if all(map(eq, chat, listed)))  # up to the end of the shorter one
        numbers[file] = next(alike, len(chats))
        if numbers[file] == len(chats):
            chats.append(listed)
        elif len(listed) > len(chats[numbers[file]]):
            chats[numbers[file]] = listed
    return numbers


def repeated(at: Place, file: str) -> Reject:
    """The outcome of a row that repeats another one."""
    return Reject(at, Reason.REPEATED_ROW, "another row holds the same message of this conversation", file=file)


class Gatherer:
    """Takes the rows of one format from all files, and gives them back conversation by conversation."""

    def __init__(self, group_of: GroupOf, id_of: IdOf | None, read: Read, folder: Path | None = None) -> None:
        """`read`: the reader's own function; it gets the rows of one conversation at a time."""
        self._group_of = group_of
        self._id_of = id_of or (lambda row: None)
        self._read = read
        self._texts: BinaryIO = tempfile.TemporaryFile(dir=folder)  # type: ignore[assignment]  # noqa: SIM115
        self._places: dict[str, list[int]] = {}
        self._end = 0

    def close(self) -> None:
        """Delete the temporary file."""
        self._texts.close()

    def rest(self, rows: Iterable[LogRow | Reject], file: str) -> Iterator[LogRow | Reject]:
        """Keep the rows that belong to a conversation; yield the others, and a Reject for a row that is no JSON."""
        for row in rows:
            group = None if isinstance(row, Reject) else self._group_of(row.value)
            if group is None or isinstance(row, Reject):
                yield row
                continue
            try:
                line = orjson.dumps((*row.at, file, row.value), default=json_value, option=orjson.OPT_APPEND_NEWLINE)
            except (orjson.JSONEncodeError, TypeError):
                yield Reject(row.at, Reason.BAD_CONTENT, "nested too deep, or a whole number of more than 64 bits")
                continue
            self._places.setdefault(group, []).append(self._end)
            self._end += self._texts.write(line)

    def finish(self) -> Stitched:
        """The outcomes of all rows that were kept."""
        return Stitched(self._outcomes(), 0, 0)

    def _outcomes(self) -> Iterator[ConversationDraft | Reject]:
        for places in self._places.values():
            group, repeats = self._once([self._load(place) for place in places])
            files = {row.at: file for row, file in reversed(group)}
            for outcome in self._read([row for row, _ in group]):
                of_rows = {"of_rows": True} if isinstance(outcome, ConversationDraft) else {}
                yield replace(outcome, file=files.get(outcome.at, group[0][1]), **of_rows)
            yield from repeats

    def _once(self, group: list[tuple[LogRow, str]]) -> tuple[list[tuple[LogRow, str]], list[Reject]]:
        """The rows of a conversation without repeats, each with what its latest version says; and the repeats."""
        if len(group) == 1:
            return group, []
        names = [self._id_of(row.value) for row, _ in group]
        keys = [
            RowKey(file, name, stable_hash(row.value) if name is None else "")
            for (row, file), name in zip(group, names, strict=True)
        ]
        kept: dict[int, tuple[LogRow, str]] = {}
        repeats: list[Reject] = []
        for (row, file), first in zip(group, first_of_each(keys), strict=True):
            if first in kept:
                before, of = kept[first]
                says = {name: value for name, value in row.value.items() if value not in (None, "", [], {})}
                kept[first] = before._replace(value={**before.value, **says}), of
                repeats.append(repeated(row.at, file))
            else:
                kept[first] = row, file
        return list(kept.values()), repeats

    def _load(self, place: int) -> tuple[LogRow, str]:
        self._texts.seek(place)
        line, element, file, value = orjson.loads(self._texts.readline())
        return LogRow(Place(line, element), value), file


def in_time_order(entries: Iterable[Entry], time_of_entry: Callable[[Entry], Any]) -> list[Entry]:
    """The entries in the order of time if all have one, else as they came."""
    listed = list(entries)
    times = [seconds_of(time_of_entry(entry)) for entry in listed]
    if None in times:
        return listed
    return [listed[place] for place in sorted(range(len(listed)), key=lambda place: times[place] or 0.0)]


Convert = Callable[[list[LogRow]], Iterable[Outcome]]
"""Turns all rows of one conversation into outcomes. Those with `rows` above 0 account for so many of these rows."""


def gathered(
    rows: Iterable[LogRow | Reject], group_of: GroupOf, convert: Convert, single: Callable[[LogRow], Iterable[Outcome]]
) -> Iterator[Outcome]:
    """The outcomes of all rows: `convert` is for those of a conversation, `single` for those that stand alone.

    For the rows of a few conversations at a time: they are all held in memory.
    """
    groups: dict[str, list[LogRow]] = {}
    alone: list[LogRow | Reject] = []
    for row in rows:
        group = None if isinstance(row, Reject) else group_of(row.value)
        if isinstance(row, Reject) or group is None:
            alone.append(row)
            yield from many_per_row(alone, single)
            alone.clear()
        else:
            groups.setdefault(group, []).append(row)
    for members in groups.values():
        yield from _of_group(members, convert)


def _of_group(rows: list[LogRow], convert: Convert) -> Iterator[Outcome]:
    """The outcomes of a conversation: its first draft accounts for all rows that were not refused by themselves."""
    try:
        outcomes = list(convert(rows))
    except Unusable as error:
        yield Reject(rows[0].at, error.reason, error.detail, rows=len(rows))
        return
    tags = tags_of_all(consent_tags(row.value) for row in rows)
    left = len(rows) - sum(outcome.rows for outcome in outcomes if isinstance(outcome, Reject))
    if outcomes and all(isinstance(outcome, Reject) for outcome in outcomes):
        outcomes[0], left = replace(outcomes[0], rows=outcomes[0].rows + left), 0
    for outcome in outcomes:
        if isinstance(outcome, ConversationDraft):
            yield replace(outcome, rows=left, tags=tags_of_all((tags, outcome.tags)))
            left = 0
        else:
            yield outcome
    if left:
        yield Reject(rows[0].at, Reason.NO_MESSAGES, "no conversation in these rows", rows=left)
