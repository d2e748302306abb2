"""Ingestion in pieces, for several processes: the same store as in one.

Map (`read_piece`): read, redact and sort a part of the logs, and cut the sorted runs into ranges of ids. Reduce
(`merge_piece`): merge the versions of the conversations of one range, from the runs of all parts and the store. The
results are equal because a range takes the runs in the order of the logs.

Single model calls and their judgements are dealt to buckets in between, and stitched there (stitches.py). Other rows
that belong together (messages, tables, judgements of whole chats) are read as one piece.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

from drift.config import IngestionSettings
from drift.disk import new_file
from drift.engine import in_pieces
from drift.logs.files.opening import state_of
from drift.logs.files.sections import Section, cut_into_sections
from drift.logs.files.sources import LogFile, NotALog, Source, ZipMember
from drift.logs.ingestion.job import IngestJob, written_by
from drift.logs.ingestion.outcomes import Detail, Ingestion, IngestSummary, ReadCounts
from drift.logs.ingestion.stitches import (
    Bucket,
    BucketStitched,
    ItemFile,
    deal,
    stitch_piece,
    stitched_counts,
)
from drift.logs.readers import READERS
from drift.logs.readers.tables.table import Table
from drift.logs.reading import recognise
from drift.progress import report_note
from drift.records import read_jsonl, stable_hash
from drift.rundir.fingerprints import code_version
from drift.store import MergedRange, Quarantined, Store, StoreWriter, merge_range, ranges_for

PIECE_BYTES = 2**25  # of logs: a second of work or two
MOST_PIECES = 2**13
RANGE_BYTES = 2**26  # of conversations, which one process merges
UNPACKED = 5  # times the size of a packed file
_READ, _STITCH, _MERGE = "read", "stitch", "merge"


@dataclass(frozen=True, slots=True)
class Ingested:
    """`refused`: ids of conversations whose last version refuses the required consent."""

    summary: IngestSummary
    refused: set[str]


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Logs that one process reads: files, or one section of a file. `form`: of a section, and of calls to stitch."""

    number: int
    sources: tuple[Source, ...]
    form: str | None

    @property
    def stitched(self) -> str | None:
        """The format whose calls this piece only reads, for others to stitch."""
        return self.form if self.form is not None and READERS[self.form].stitched else None

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


def ingest_in_pieces(
    sources: Sequence[Source], form: str | Table | None, source: str | None, settings: IngestionSettings, store: Store
) -> Ingested:
    """Read the logs into the store, with the current engine. Parameters and errors as of `ingest`.

    When the command is killed, the same command goes on behind the finished pieces.
    """
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
        before = _lines_before(pieces, read)
        buckets, stitched = _stitched(job, pieces, before, plan)
        done = [piece.number for piece in pieces if piece.stitched is None] + [bucket.number for bucket in buckets]
        merged = in_pieces(partial(merge_piece, job, done), range(job.ranges), MergedRange, job.folder / _MERGE, plan)
        counts, refused = _gathered(job, done, pieces, read, before, writer)
        counts = counts.plus(stitched_counts(job, buckets, stitched, writer))
        added = writer.commit_ranges([job.file(number, "parquet") for number in range(job.ranges)], merged)
    named = {one.name: counts.formats[one.name] for one in sources if one.name in counts.formats}
    return Ingested(replace(counts, formats=named).summary(added), refused)


def read_piece(job: IngestJob, piece: LogPiece) -> PieceRead:
    """Map: read and redact some logs; write their conversations as runs, cut into ranges of ids, and their notes."""
    form = Table(job.settings) if job.settings.map else piece.form or job.form
    ingestion = Ingestion(piece.sources, form, job.source, job.settings, job.forgotten)
    with ExitStack() as files:
        items = None
        if piece.stitched is not None:
            new = files.enter_context(new_file(job.file(piece.number, "items")))
            items = ItemFile(files.enter_context(new.open("wb")))
        with written_by(job, piece.number, ingestion) as writer:
            ingestion.read_into(writer, items)
        if items is not None:
            items.save_names(job.file(piece.number, "names"))
    only = piece.sources[0]
    return PieceRead(ingestion.counts(), only.lines() if isinstance(only, Section) else 0)


def merge_piece(job: IngestJob, pieces: Sequence[int], number: int) -> MergedRange:
    """Reduce: merge the versions of each conversation of one range of ids, in the order of the logs. `pieces`: the
    numbers of those that have conversations."""
    added = [job.file(piece, "runs") for piece in pieces]
    with new_file(job.file(number, "parquet")) as out:
        return merge_range(out, job.stored, added, number, job.ranges, job.this_write)


def _stitched(
    job: IngestJob, pieces: Sequence[LogPiece], before: Sequence[int], plan: str
) -> tuple[list[Bucket], list[BucketStitched]]:
    """Stitch the calls that were only read, format by format; `before`: as of `_lines_before`."""
    buckets: list[Bucket] = []
    for form in dict.fromkeys(piece.stitched for piece in pieces):
        if form is not None:
            of_form = [piece.number for piece in pieces if piece.stitched == form]
            buckets += deal(job, form, of_form, len(pieces) + len(buckets), PIECE_BYTES)
    if not buckets:
        return [], []
    stitched = in_pieces(partial(stitch_piece, job, before), buckets, BucketStitched, job.folder / _STITCH, plan)
    for piece in pieces:
        job.file(piece.number, "items").unlink(missing_ok=True)  # texts that are not redacted
    return buckets, stitched


def _lines_before(pieces: Sequence[LogPiece], read: Sequence[PieceRead]) -> list[int]:
    """Of each piece, how many lines of its file stand before it: sections count lines from their own start."""
    before: list[int] = []
    for number, piece in enumerate(pieces):
        first = piece.sources[0]
        goes_on = isinstance(first, Section) and first.start > 0
        before.append(before[-1] + read[number - 1].lines if goes_on else 0)
    return before


def _gathered(
    job: IngestJob,
    done: Sequence[int],
    pieces: Sequence[LogPiece],
    read: Sequence[PieceRead],
    before: Sequence[int],
    writer: StoreWriter,
) -> tuple[ReadCounts, set[str]]:
    """The counts of all pieces that were read. The notes go to the writer. Also the ids whose last version refuses the
    consent; `done`: the numbers of the pieces and buckets with conversations."""
    counts, refused = ReadCounts(), set[str]()
    for piece, part, lines in zip(pieces, read, before, strict=True):
        details = {reason: Detail(at.file, at.line + lines, at.what) for reason, at in part.counts.details.items()}
        counts = counts.plus(replace(part.counts, details=details))
        for note in read_jsonl(job.file(piece.number, "notes"), Quarantined):
            writer.quarantine(replace(note, line=note.line + lines))
    for number in done if job.settings.require_consent else ():
        kept, refusing = read_jsonl(job.file(number, "ids"), list[str])
        refused = (refused - set(kept)) | set(refusing)
    return counts, refused


def _plan(sources: Sequence[Source], form: str | Table | None, source_name: str | None) -> list[LogPiece]:
    """Which logs are read together. Raises DataError if the user named a log and its format is unknown."""
    named = [(source, _format_of(source, form)) for source in sources]
    stitched = _stitched_formats(named, source_name)
    split = {name for name, reader in READERS.items() if reader.apart} | stitched
    together = [source for source, name in named if name not in split]
    if source_name is not None and together:  # then conversations of several formats may have the same id
        split, together = set[str](), list(sources)
    pieces: list[LogPiece] = []
    for group, name in _grouped([(source, name) for source, name in named if name in split]):
        pieces.append(LogPiece(len(pieces), group, name))
    if together:
        if len(together) > 1 or together[0].size > PIECE_BYTES:
            report_note(
                f"{len(together)} of {len(sources)} logs are read by one process: their rows belong together, or they "
                "come from a database or a pipe"
            )
        pieces.append(LogPiece(len(pieces), tuple(together), None))
    return pieces


def _stitched_formats(named: Sequence[tuple[Source, str | None]], source_name: str | None) -> set[str]:
    """The formats of single calls that are stitched in pieces: those of more than one piece. None if some logs can be
    read only once and may hold calls of any format, or if calls and other chats may have the same id."""
    if not all(isinstance(source, LogFile | ZipMember) for source, _ in named):
        return set()
    formats = {name for _, name in named if name is not None}
    if source_name is not None and len(formats) > 1:
        return set()
    size = {form: sum(unpacked_bytes(source) for source, name in named if name == form) for form in formats}
    return {form for form in formats if READERS[form].stitched and size[form] > PIECE_BYTES}


def _format_of(source: Source, form: str | Table | None) -> str | None:
    """The format that the user named or the first rows show; None for a table, for what is not a log, and for what can
    be read only once."""
    if isinstance(form, Table) or not isinstance(source, LogFile | ZipMember):
        return None
    if form is not None:
        return form
    try:
        return recognise(source.name, source.rows(lambda _: None, Counter())).name
    except NotALog:
        if source.is_named:
            raise
        return None


def _grouped(files: Sequence[tuple[Source, str | None]]) -> list[tuple[tuple[Source, ...], str | None]]:
    """Small files together, large ones in sections, in their order. Calls to stitch only with those of their format."""
    each = max(PIECE_BYTES, sum(source.size for source, _ in files) // MOST_PIECES)
    groups: list[tuple[tuple[Source, ...], str | None]] = []
    small, of_small = list[Source](), None

    def close() -> None:
        if small:
            groups.append((tuple(small), of_small))
            small.clear()

    for source, name in files:
        reader = READERS[name] if name is not None else None
        sections = cut_into_sections(source.path, each) if isinstance(source, LogFile) else []
        if sections and not (reader and reader.by_file):
            close()
            groups += [((section,), name) for section in sections]
            continue
        calls_of = name if reader and reader.stitched else None
        if calls_of != of_small or sum(one.size for one in small) + source.size > each:
            close()
        of_small = calls_of
        small.append(source)
    close()
    return groups


def unpacked_bytes(source: Source) -> int:
    """About the size of its rows as text."""
    is_packed = isinstance(source, LogFile) and source.name.lower().endswith((".gz", ".zst", ".parquet"))
    return source.size * (UNPACKED if is_packed else 1)


def _state(source: Source) -> Any:
    """What tells that a source is as it was. A database does not tell: it is read again."""
    place = (source.start, source.stop) if isinstance(source, Section) else None
    if isinstance(source, ZipMember):
        changed = state_of(source.archive)
    elif isinstance(source, LogFile | Section):
        changed = state_of(source.path) if source.name != "-" else 0
    else:
        changed = uuid4().hex
    return [source.name, source.size, place, changed]
