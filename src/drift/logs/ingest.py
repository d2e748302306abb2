"""Chat logs into a store: every row that is read is accepted, an update, a duplicate, filtered or quarantined."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drift.errors import DataError
from drift.logs.draft import finish
from drift.logs.files.opening import STDIN, Repair, log_files, size_of
from drift.logs.readers import READERS
from drift.logs.rows import Reject, Row, Unusable, read_rows
from drift.records import Conversation, Reason
from drift.store import Quarantined, Store

_FIRST_ROWS = 200  # looked at to recognise a format

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What became of the rows of some logs (of WildFeedback's utterances: of their conversations).

    `repaired` counts rows that could be read after something was mended; what became of them is among the others.
    """

    read: int = 0
    accepted: int = 0
    updated: int = 0
    duplicate: int = 0
    filtered: int = 0
    quarantined: dict[Reason, int] = field(default_factory=dict)
    repaired: dict[Repair, int] = field(default_factory=dict)

    @property
    def adds_up(self) -> bool:
        return self.read == sum(
            (self.accepted, self.updated, self.duplicate, self.filtered, *self.quarantined.values())
        )


def ingest(
    paths: Sequence[Path],
    store: Store,
    *,
    format: str | None = None,  # noqa: A002 (the command's option of this name)
    source: str | None = None,
    on_progress: OnProgress | None = None,
) -> IngestSummary:
    """Read log files (`log_files` says how they are named) into the store, as a stream.

    `format` is a key of READERS; by default each file's first rows tell it. `source` names where the logs are from, and
    ids are unique within a source; by default it is the format's name. `on_progress` gets the bytes done and to do.

    Raises DataError if a file is missing, empty, damaged or of no known format. On any error and on an interrupt the
    store stays as it was.
    """
    if format is not None and format not in READERS:
        raise DataError(f"--format {format}: no such format; known: {', '.join(READERS)}.")
    files = log_files(paths)
    total, done, read, quarantined = sum(map(size_of, files)), 0, 0, Counter[Reason]()
    repaired = Counter[Repair]()
    with store.writer() as writer:
        for file in files:
            start = done

            def progress(in_file: int, start: int = start) -> None:
                if on_progress is not None:
                    on_progress(start + in_file, total)

            for outcome in _outcomes(file, format, source, writer.user_key, progress, repaired):
                read += 1
                if isinstance(outcome, Conversation):
                    writer.add(outcome)
                    continue
                quarantined[outcome.reason] += 1
                line, element = outcome.at
                name = "-" if file == STDIN else str(file.resolve())
                writer.quarantine(Quarantined(name, line, outcome.reason, outcome.detail, element))
            done += size_of(file)
        added = writer.commit()
    return IngestSummary(read, added.accepted, added.updated, added.duplicate, 0, dict(quarantined), dict(repaired))


def _outcomes(
    file: Path,
    format_name: str | None,
    source: str | None,
    user_key: Callable[[str], str],
    progress: Callable[[int], None],
    repaired: Counter[Repair],
) -> Iterator[Conversation | Reject]:
    """One per row, or per conversation where rows are utterances."""
    rows = read_rows(file, progress, repaired)
    name, first = _recognise(file, rows, format_name)
    for draft in READERS[name].read(itertools.chain(first, rows)):
        if isinstance(draft, Reject):
            yield draft
            continue
        try:
            yield finish(draft, source or name, user_key)
        except Unusable as error:
            yield Reject(draft.at, error.reason, error.detail)


def _recognise(file: Path, rows: Iterator[Row | Reject], name: str | None) -> tuple[str, list[Row | Reject]]:
    """The format (`name`, if it is given) and the rows that were looked at. Raises DataError if there is none."""
    first: list[Row | Reject] = []
    for row in itertools.islice(rows, _FIRST_ROWS):
        first.append(row)
        found = _format_of(row) if name is None else name
        if found is not None:
            return found, first
    known = f"Name its format with --format: {', '.join(READERS)}"
    readable = next((row for row in first if isinstance(row, Row)), None)
    if readable is None:
        raise DataError(f"{file}: no row of JSON Lines, of a JSON array or of Parquet in it. Leave it out. {known}.")
    keys = ", ".join(list(readable.value)[:8]) or "no keys"
    raise DataError(f"{file}:{readable.at.line}: no chat log that is known (this row has {keys}). {known}.")


def _format_of(row: Row | Reject) -> str | None:
    if isinstance(row, Reject):
        return None
    return next((name for name, candidate in READERS.items() if candidate.recognises(row.value)), None)
