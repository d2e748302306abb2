"""Ingestion in pieces, for several processes: the same store as in one.

Map (`read_piece`): read, redact and sort a part of the logs, and cut the sorted runs into ranges of ids. Reduce
(`merge_piece`): merge the versions of the conversations of one range, from the runs of all parts and the store. The
results are equal because a range takes the runs in the order of the logs.

Rows that belong together (single model calls, messages, tables, judgements in other files) are read as one piece.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from drift.config import IngestionSettings
from drift.disk import new_file
from drift.engine import in_pieces
from drift.logs.files.opening import state_of
from drift.logs.files.sections import Section, cut_into_sections
from drift.logs.files.sources import LogFile, NotALog, Source
from drift.logs.ingestion.outcomes import Detail, Ingestion, IngestSummary, ReadCounts
from drift.logs.judgements import judgements_first
from drift.logs.readers import READERS
from drift.logs.readers.tables.table import Table
from drift.logs.reading import recognise
from drift.progress import report_note
from drift.records import read_jsonl, stable_hash, write_jsonl
from drift.rundir.fingerprints import code_version
from drift.store import (
    Forgotten,
    MergedRange,
    PieceWriter,
    Quarantined,
    Store,
    StoreWriter,
    merge_range,
    ranges_for,
)

PIECE_BYTES = 2**25  # of logs: a second of work or two
MOST_PIECES = 2**13
RANGE_BYTES = 2**26  # of conversations, which one process merges
UNPACKED = 5  # times the size of a packed file
_READ, _MERGE = "read", "merge"


@dataclass(frozen=True, slots=True)
class Ingested:
    """`refused`: ids of conversations whose last version refuses the required consent."""

    summary: IngestSummary
    refused: set[str]


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Logs that one process reads: files, or one section of a file. `form`: of a section."""

    number: int
    sources: tuple[Source, ...]
    form: str | None

    @property
    def name(self) -> str:
        first, more = self.sources[0], len(self.sources) - 1
        place = f", bytes {first.start} to {first.stop}" if isinstance(first, Section) else ""
        return f"reading {first.name}{place}" + (f" and {more} more" if more else "")


@dataclass(frozen=True, slots=True)
class PieceRead:
    """`lines`: of a section, to count those of the next one from."""

    counts: ReadCounts
    lines: int


@dataclass(frozen=True, slots=True)
class IngestJob:
    """What every piece needs to know. `folder`: for what the pieces write. `ranges`: of ids, a power of two."""

    folder: Path
    ranges: int
    salt: str
    this_write: int
    stored: tuple[Path, ...]
    form: str | None
    source: str | None
    settings: IngestionSettings
    forgotten: Forgotten

    def file(self, number: int, kind: str) -> Path:
        """The file of this kind that the piece of this number writes."""
        return self.folder / f"{number:05d}.{kind}"


def ingest_in_pieces(
    sources: Sequence[Source], form: str | Table | None, source: str | None, settings: IngestionSettings, store: Store
) -> Ingested:
    """Read the logs into the store, with the current engine. Parameters and errors as of `ingest`.

    When the command is killed, the same command goes on behind the finished pieces.
    """
    sources = judgements_first(sources)
    pieces = _plan(sources, form, source)
    with store.writer() as writer:
        name = form if isinstance(form, str) else None
        stored, forgotten = writer.stored, store.forgotten()
        size = sum(map(unpacked_bytes, sources)) + sum(file.stat().st_size * UNPACKED for file in stored)
        states = [[_state(one) for one in piece.sources] for piece in pieces]
        options = (name, source, settings.model_dump(mode="json"))
        tombstones = sorted(forgotten.users | forgotten.conversations)
        plan = stable_hash(states, options, writer.salt, writer.this_write, tombstones, code_version())
        job = IngestJob(
            folder=writer.pieces("ingest", plan),
            ranges=ranges_for(size, RANGE_BYTES),
            salt=writer.salt,
            this_write=writer.this_write,
            stored=tuple(stored),
            form=name,
            source=source,
            settings=settings,
            forgotten=forgotten,
        )
        read = in_pieces(partial(read_piece, job), pieces, PieceRead, job.folder / _READ, plan)
        merge = partial(merge_piece, job, len(pieces))
        merged = in_pieces(merge, range(job.ranges), MergedRange, job.folder / _MERGE, plan)
        counts, refused = _gathered(job, pieces, read, writer)
        added = writer.commit_ranges([job.file(number, "parquet") for number in range(job.ranges)], merged)
    named = {one.name: counts.formats[one.name] for one in sources if one.name in counts.formats}
    return Ingested(replace(counts, formats=named).summary(added), refused)


def read_piece(job: IngestJob, piece: LogPiece) -> PieceRead:
    """Map: read and redact some logs; write their conversations as runs, cut into ranges of ids, and their notes."""
    form = Table(job.settings) if job.settings.map else piece.form or job.form
    ingestion = Ingestion(piece.sources, form, job.source, job.settings, job.forgotten)
    noting = bool(job.settings.require_consent)
    with (
        TemporaryDirectory(prefix="drift-piece-", dir=job.folder) as spill,
        new_file(job.file(piece.number, "runs")) as runs,
        new_file(job.file(piece.number, "notes")) as notes,
    ):
        with runs.open("wb") as runs_out, notes.open("wb") as notes_out:
            writer = PieceWriter(job.salt, runs_out, notes_out, job.ranges, Path(spill), noting)
            ingestion.read_into(writer)
            writer.close()
        if noting:
            with new_file(job.file(piece.number, "ids")) as ids:
                write_jsonl(ids, (sorted(writer.ids), sorted(ingestion.refused)))
    only = piece.sources[0]
    return PieceRead(ingestion.counts(), only.lines() if isinstance(only, Section) else 0)


def merge_piece(job: IngestJob, pieces: int, number: int) -> MergedRange:
    """Reduce: merge the versions of each conversation of one range of ids, in the order of the logs."""
    added = [job.file(piece, "runs") for piece in range(pieces)]
    with new_file(job.file(number, "parquet")) as out:
        return merge_range(out, job.stored, added, number, job.ranges, job.this_write)


def _gathered(
    job: IngestJob, pieces: Sequence[LogPiece], read: Sequence[PieceRead], writer: StoreWriter
) -> tuple[ReadCounts, set[str]]:
    """The counts of all pieces, and the ids whose last version refuses the consent. The notes go to the writer.

    Sections count lines from their own start; here they get those before them.
    """
    counts, refused, before = list[ReadCounts](), set[str](), 0
    for piece, part in zip(pieces, read, strict=True):
        first = piece.sources[0]
        before = 0 if not isinstance(first, Section) or first.start == 0 else before
        details = {reason: Detail(at.file, at.line + before, at.what) for reason, at in part.counts.details.items()}
        counts.append(replace(part.counts, details=details))
        for note in read_jsonl(job.file(piece.number, "notes"), Quarantined):
            writer.quarantine(replace(note, line=note.line + before))
        before += part.lines
        if job.settings.require_consent:
            kept, refusing = read_jsonl(job.file(piece.number, "ids"), list[str])
            refused = (refused - set(kept)) | set(refusing)
    return reduce(ReadCounts.plus, counts, ReadCounts()), refused


def _plan(sources: Sequence[Source], form: str | Table | None, source_name: str | None) -> list[LogPiece]:
    """Which logs are read together. Raises DataError if the user named a log and its format is unknown."""
    apart: list[tuple[Source, str | None]] = []
    together: list[Source] = []
    for source in sources:
        name = form if isinstance(form, str) else None if isinstance(form, Table) else _format_of(source)
        if isinstance(source, LogFile) and name is not None and READERS[name].apart:
            apart.append((source, name))
        else:
            together.append(source)
    if source_name is not None and together:  # then conversations of several formats may have the same id
        apart, together = [], list(sources)
    pieces: list[LogPiece] = []
    for group, name in _grouped(apart):
        pieces.append(LogPiece(len(pieces), group, name))
    if together:
        if len(together) > 1 or together[0].size > PIECE_BYTES:
            report_note(
                f"{len(together)} of {len(sources)} logs are read by one process: their rows belong together, or they "
                "come from a database or a pipe"
            )
        pieces.append(LogPiece(len(pieces), tuple(together), None))
    return pieces


def _format_of(source: Source) -> str | None:
    """The format that the first rows show; None for what is not a log, or can be read only once."""
    if not isinstance(source, LogFile):
        return None
    try:
        return recognise(source.name, source.rows(lambda _: None, Counter())).name
    except NotALog:
        if source.is_named:
            raise
        return None


def _grouped(files: Sequence[tuple[Source, str | None]]) -> list[tuple[tuple[Source, ...], str | None]]:
    """Small files together, large ones in sections, in their order."""
    each = max(PIECE_BYTES, sum(source.size for source, _ in files) // MOST_PIECES)
    groups: list[tuple[tuple[Source, ...], str | None]] = []
    small: list[Source] = []

    def close() -> None:
        if small:
            groups.append((tuple(small), None))
            small.clear()

    for source, name in files:
        sections = cut_into_sections(source.path, each) if isinstance(source, LogFile) else []
        if sections:
            close()
            groups += [((section,), name) for section in sections]
            continue
        if sum(one.size for one in small) + source.size > each:
            close()
        small.append(source)
    close()
    return groups


def unpacked_bytes(source: Source) -> int:
    """About the size of its rows as text."""
    is_packed = isinstance(source, LogFile) and source.name.lower().endswith((".gz", ".zst", ".parquet"))
    return source.size * (UNPACKED if is_packed else 1)


def _state(source: Source) -> Any:
    """What tells that a source is as it was."""
    place = (source.start, source.stop) if isinstance(source, Section) else None
    changed = state_of(source.path) if isinstance(source, LogFile | Section) and source.name != "-" else 0
    return [source.name, source.size, place, changed]
