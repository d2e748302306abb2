"""Log files as conversations: formats recognised, rows read, calls stitched; every row of a file is accounted for."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drift.errors import DataError
from drift.logs.draft import ConversationDraft, Evidence, finish
from drift.logs.files.opening import STDIN, Repair, size_of
from drift.logs.files.rows import LogRow, Reject, Unusable, read_rows
from drift.logs.readers import READERS
from drift.logs.traces.stitching import Stitcher
from drift.records import Conversation, Reason

FILTERED = frozenset({Reason.NOT_A_CHAT, Reason.JOINED_AS_EVIDENCE, Reason.NO_VERDICT})
"""Rows that are not lost, but are no conversations of their own."""
_FIRST_ROWS = 200  # looked at to recognise a format
_SURE_ROWS = 20  # looked at where one has been recognised: others may contradict it
_FIRST_CHARACTERS = 16 * 2**20

OnProgress = Callable[[int, int], None]


@dataclass(slots=True)
class Reading:
    """What is found while files are read. `formats`: of each file; `rows`: cut from the files; `merged`: rows that are
    single calls, part of a conversation that another row holds whole."""

    formats: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    merged: int = 0
    merged_rows: int = 0
    repaired: Counter[Repair] = field(default_factory=Counter)
    accounted: int = 0

    def check(self) -> None:
        """Every row that was cut has become something. Anything else is an error of this program."""
        if self.rows != self.accounted + self.merged_rows:
            told = f"{self.rows} rows were read, but {self.accounted} accounted for and {self.merged_rows} merged"
            raise AssertionError(f"{told}: a reader has lost some; please report it with the format of the log")


def read_logs(
    files: Sequence[Path],
    format_name: str | None,
    source: str | None,
    user_key: Callable[[str], str],
    reading: Reading,
    on_progress: OnProgress | None = None,
    spill: Path | None = None,
) -> Iterator[Conversation | Reject]:
    """Conversations and refusals of all files, in their order; of formats that log single calls, when all are read.

    `spill`: the folder for what does not fit into memory. Raises DataError if a file's format is unknown or ambiguous.
    """
    total, done = sum(map(size_of, files)), 0
    stitchers: dict[str, Stitcher] = {}
    with ExitStack() as at_work:
        for file in files:
            start = done

            def progress(in_file: int, start: int = start) -> None:
                if on_progress is not None:
                    on_progress(start + in_file, total)

            shown = "-" if file == STDIN else str(file.resolve())
            rows = _counted(read_rows(file, progress, reading.repaired), reading)
            name, first = recognise(file, rows, format_name)
            reading.formats[shown] = name
            found = READERS[name].read(itertools.chain(first, rows))
            if READERS[name].stitched:
                if name not in stitchers:
                    stitchers[name] = Stitcher(spill)
                    at_work.callback(stitchers[name].close)
                found = _without_calls(found, stitchers[name], shown)
            yield from _finished(found, source or name, user_key, reading, shown)
            done += size_of(file)
        for name, stitcher in stitchers.items():
            stitched = stitcher.finish()
            reading.merged += stitched.merged
            reading.merged_rows += stitched.merged_rows
            yield from _finished(stitched.outcomes, source or name, user_key, reading)
        reading.check()


def recognise(file: Path, rows: Iterator[LogRow | Reject], name: str | None) -> tuple[str, list[LogRow | Reject]]:
    """The format (`name`, if it is given) and the rows that were looked at. Raises DataError if it is not certain."""
    first: list[LogRow | Reject] = []
    places: dict[str, int] = {}
    plain: dict[str, int] = {}
    weight = 0
    for row in rows if name is None else ():
        first.append(row)
        if isinstance(row, LogRow):
            for candidate, known in READERS.items():
                if known.recognises(row.value):
                    (plain if known.plain else places).setdefault(candidate, row.at.line)
        weight += _weight(row)
        if len(first) >= (_SURE_ROWS if places or plain else _FIRST_ROWS) or weight > _FIRST_CHARACTERS:
            break
    if name is not None:
        return name, first
    found = places or plain
    if len(found) == 1:
        return next(iter(found)), first
    if found:
        told = ", ".join(f"{candidate} (line {line})" for candidate, line in found.items())
        raise DataError(f"{file}: this could be {told}. Say which one with --format.")
    known = f"Name its format with --format: {', '.join(READERS)}"
    readable = next((row for row in first if isinstance(row, LogRow)), None)
    if readable is None:
        raise DataError(f"{file}: no row of JSON Lines, of a JSON array or of Parquet in it. Leave it out. {known}.")
    keys = ", ".join(list(readable.value)[:8]) or "no keys"
    raise DataError(f"{file}:{readable.at.line}: no chat log that is known (this row has {keys}). {known}.")


def _weight(row: LogRow | Reject) -> int:
    """Characters of all texts in a row."""
    weight = 0
    left: list[Any] = [row.value] if isinstance(row, LogRow) else []
    while left:
        inner = left.pop()
        for value in inner.values() if isinstance(inner, dict) else inner:
            if isinstance(value, str):
                weight += len(value)
            elif isinstance(value, dict | list):
                left.append(value)
    return weight


def _counted(rows: Iterable[LogRow | Reject], reading: Reading) -> Iterator[LogRow | Reject]:
    for row in rows:
        reading.rows += 1
        yield row


def _without_calls(
    found: Iterable[ConversationDraft | Evidence | Reject], stitcher: Stitcher, file: str
) -> Iterator[ConversationDraft | Evidence | Reject]:
    for outcome in found:
        if isinstance(outcome, Reject):
            yield outcome
        else:
            stitcher.add(outcome, file)


def _finished(
    found: Iterable[ConversationDraft | Evidence | Reject],
    source: str,
    user_key: Callable[[str], str],
    reading: Reading,
    file: str = "",
) -> Iterator[Conversation | Reject]:
    for outcome in found:
        reading.accounted += outcome.rows
        if isinstance(outcome, Reject):
            yield replace(outcome, file=outcome.file or file)
        elif isinstance(outcome, ConversationDraft):
            try:
                yield finish(outcome, source, user_key)
            except Unusable as error:
                yield Reject(outcome.at, error.reason, error.detail, file=outcome.file or file)
