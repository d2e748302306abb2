"""Chat logs into a store: every row that is read is accepted, an update, a duplicate, filtered or quarantined."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drift.errors import DataError
from drift.logs.files.opening import Repair, log_files
from drift.logs.readers import READERS
from drift.logs.reading import FILTERED, OnProgress, Reading, read_logs
from drift.records import Conversation, Reason
from drift.store import Quarantined, Store


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What became of the conversations, model calls and judgements in some logs; `rows` of the files held them.

    A row can hold several conversations (the paths of a tree), and several rows one (utterances). A call that is part
    of a longer one is a duplicate. `filtered_by`: the filtered ones by reason. `repaired`: rows that could be read
    after something was mended; what became of them is among the others. `formats`: files by format.
    """

    read: int = 0
    accepted: int = 0
    updated: int = 0
    duplicate: int = 0
    filtered: int = 0
    quarantined: dict[Reason, int] = field(default_factory=dict)
    filtered_by: dict[Reason, int] = field(default_factory=dict)
    repaired: dict[Repair, int] = field(default_factory=dict)
    rows: int = field(default=0, compare=False)
    formats: dict[str, int] = field(default_factory=dict, compare=False)

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
    read, quarantined, filtered, reading = 0, Counter[Reason](), Counter[Reason](), Reading()
    with store.writer() as writer:
        for outcome in read_logs(files, format, source, writer.user_key, reading, on_progress, writer.spill):
            read += 1
            if isinstance(outcome, Conversation):
                writer.add(outcome)
            elif outcome.reason in FILTERED:
                filtered[outcome.reason] += 1
            else:
                quarantined[outcome.reason] += 1
                line, element = outcome.at
                writer.quarantine(Quarantined(outcome.file, line, outcome.reason, outcome.detail, element))
        added = writer.commit()
    return IngestSummary(
        read=read + reading.merged,
        accepted=added.accepted,
        updated=added.updated,
        duplicate=added.duplicate + reading.merged,
        filtered=filtered.total(),
        quarantined=dict(quarantined),
        filtered_by=dict(filtered),
        repaired=dict(reading.repaired),
        rows=reading.rows,
        formats=dict(Counter(reading.formats.values())),
    )
