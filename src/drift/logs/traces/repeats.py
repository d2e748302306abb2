"""Rows of one conversation that are in the logs more than once: a dump of each night, pages that overlap."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from drift.logs.files.rows import Place, Reject
from drift.records import Reason, stable_hash


class RowKey(NamedTuple):
    """What tells whether two rows of one conversation are the same. `name`: the log's id of the message; `content`: a
    hash of what the row holds, with its time; `is_timed`: whether it has one."""

    file: str
    name: str | None
    content: str
    is_timed: bool = False


def first_of_each(rows: Sequence[RowKey]) -> list[int]:
    """For each row the place of the first one that is the same: its own place if it repeats none.

    Rows of one id are the same. Without ids, those with the same time and content are, of which one file may hold
    several. Without times a user may have written the same again: there, a row is the same only if all rows before it
    in its file are the same too, as in two dumps of one chat.
    """
    first: dict[tuple[str, str, int], int] = {}
    times: Counter[tuple[str, str]] = Counter()
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
            key = "begins", so_far[row.file], 0
        places.append(first.setdefault(key, place))
    return places


def repeated(at: Place, file: str) -> Reject:
    """The outcome of a row that repeats another one."""
    return Reject(at, Reason.REPEATED_ROW, "another row holds the same message of this conversation", file=file)
