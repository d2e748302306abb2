"""Read log files as conversations: recognise the format, read rows, stitch calls, and account for every row."""

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
from drift.logs.judgements import Judgements, judgements_first
from drift.logs.readers import READERS
from drift.logs.traces.stitching import Stitcher
from drift.records import Conversation, Reason

FILTERED = frozenset({Reason.NOT_A_CHAT, Reason.JOINED_AS_EVIDENCE, Reason.NO_VERDICT})
"""Reasons of rows that are not errors, but not conversations either."""
_MAX_HEAD_ROWS = 200  # rows that are read to recognise a format
_MIN_HEAD_ROWS = 20  # rows that are read even if one is recognised earlier: later rows may contradict it
_MAX_HEAD_CHARACTERS = 16 * 2**20

OnProgress = Callable[[int, int], None]


@dataclass(slots=True)
class Reading:
    """Counts of what was read. `formats`: by file. `rows`: rows of the files. `merged`: calls that are part of a longer
    call; `merged_rows`: their rows. `accounted`: rows that became a conversation, a judgement or a `Reject`."""

    formats: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    merged: int = 0
    merged_rows: int = 0
    repaired: Counter[Repair] = field(default_factory=Counter)
    accounted: int = 0

    def check(self) -> None:
        """Raise AssertionError if a row has no outcome: that is a bug in a reader."""
        if self.rows != self.accounted + self.merged_rows:
            raise AssertionError(
                f"{self.rows} rows were read, but {self.accounted} are accounted for and {self.merged_rows} merged. "
                "This is a bug in a reader, please report it with the format of the log."
            )


def read_logs(
    files: Sequence[Path],
    format_name: str | None,
    source: str | None,
    user_key: Callable[[str], str],
    reading: Reading,
    on_progress: OnProgress | None = None,
    spill: Path | None = None,
) -> Iterator[Conversation | Reject]:
    """Yield the conversations and rejects of all files in order. Stitched formats come last, when all files are read.

    `spill`: the folder for what does not fit into memory. Raises DataError if a file's format is unknown or ambiguous.
    """
    total, done = sum(map(size_of, files)), 0
    stitchers: dict[str, Stitcher] = {}
    judgements = Judgements()
    with ExitStack() as open_stitchers:
        for file in judgements_first(files):
            start = done

            def progress(in_file: int, start: int = start) -> None:
                if on_progress is not None:
                    on_progress(start + in_file, total)

            file_name = "-" if file == STDIN else str(file.resolve())
            rows = _counted(read_rows(file, progress, reading.repaired), reading)
            name, first = recognise(file, rows, format_name)
            reading.formats[file_name] = name
            outcomes = READERS[name].read(itertools.chain(first, rows))
            if READERS[name].stitched:
                if name not in stitchers:
                    stitchers[name] = Stitcher(spill)
                    open_stitchers.callback(stitchers[name].close)
                outcomes = _stitch(outcomes, stitchers[name], file_name)
            else:
                outcomes = _judged(outcomes, judgements, file_name)
            yield from _finished(outcomes, source or name, user_key, reading, file_name)
            done += size_of(file)
        for name, stitcher in stitchers.items():
            stitched = stitcher.finish()
            reading.merged += stitched.merged
            reading.merged_rows += stitched.merged_rows
            yield from _finished(stitched.outcomes, source or name, user_key, reading)
        yield from _finished(judgements.outcomes(), "", user_key, reading)
        reading.check()


def recognise(file: Path, rows: Iterator[LogRow | Reject], name: str | None) -> tuple[str, list[LogRow | Reject]]:
    """The format (`name` if it is not None) and the rows that were read to recognise it. Raises DataError in doubt."""
    first: list[LogRow | Reject] = []
    lines: dict[str, int] = {}  # the first line that each format recognised
    plain_lines: dict[str, int] = {}
    characters = 0
    for row in rows if name is None else ():
        first.append(row)
        if isinstance(row, LogRow):
            for candidate, reader in READERS.items():
                if reader.recognises(row.value):
                    (plain_lines if reader.plain else lines).setdefault(candidate, row.at.line)
        characters += _characters(row)
        if (
            len(first) >= (_MIN_HEAD_ROWS if lines or plain_lines else _MAX_HEAD_ROWS)
            or characters > _MAX_HEAD_CHARACTERS
        ):
            break
    if name is not None:
        return name, first
    candidates = lines or plain_lines
    if len(candidates) == 1:
        return next(iter(candidates)), first
    if candidates:
        listed = ", ".join(f"{candidate} (line {line})" for candidate, line in candidates.items())
        raise DataError(f"{file}: the format could be {listed}. Choose one: --format NAME.")
    remedy = f"Name the format with --format: {', '.join(READERS)}"
    readable = next((row for row in first if isinstance(row, LogRow)), None)
    if readable is None:
        raise DataError(f"{file}: no rows of JSON Lines, a JSON array, Parquet or CSV. Leave the file out.")
    keys = ", ".join(list(readable.value)[:8]) or "none"
    raise DataError(f"{file}:{readable.at.line}: unknown log format (this row has the keys {keys}). {remedy}.")


def _characters(row: LogRow | Reject) -> int:
    """The number of characters of all texts in a row."""
    count = 0
    left: list[Any] = [row.value] if isinstance(row, LogRow) else []
    while left:
        inner = left.pop()
        for value in inner.values() if isinstance(inner, dict) else inner:
            if isinstance(value, str):
                count += len(value)
            elif isinstance(value, dict | list):
                left.append(value)
    return count


def _counted(rows: Iterable[LogRow | Reject], reading: Reading) -> Iterator[LogRow | Reject]:
    for row in rows:
        reading.rows += 1
        yield row


def _stitch(
    outcomes: Iterable[ConversationDraft | Evidence | Reject], stitcher: Stitcher, file: str
) -> Iterator[ConversationDraft | Evidence | Reject]:
    """Give calls and judgements to the stitcher, which yields them after the last file; yield only rejects."""
    for outcome in outcomes:
        if isinstance(outcome, Reject):
            yield outcome
        else:
            stitcher.add(outcome, file)


def _judged(
    outcomes: Iterable[ConversationDraft | Evidence | Reject], judgements: Judgements, file: str
) -> Iterator[ConversationDraft | Reject]:
    """Keep judgements for the chats that follow; yield chats with the judgements about them, and rejects."""
    for outcome in outcomes:
        if isinstance(outcome, Evidence):
            judgements.add(outcome, file)
        else:
            yield judgements.rated(outcome) if isinstance(outcome, ConversationDraft) else outcome


def _finished(
    outcomes: Iterable[ConversationDraft | Evidence | Reject],
    source: str,
    user_key: Callable[[str], str],
    reading: Reading,
    file: str = "",
) -> Iterator[Conversation | Reject]:
    """Turn drafts into conversations, and count the rows that each outcome accounts for."""
    for outcome in outcomes:
        reading.accounted += outcome.rows
        if isinstance(outcome, Reject):
            yield replace(outcome, file=outcome.file or file)
        elif isinstance(outcome, ConversationDraft):
            try:
                yield finish(outcome, source, user_key)
            except Unusable as error:
                yield Reject(outcome.at, error.reason, error.detail, file=outcome.file or file)
