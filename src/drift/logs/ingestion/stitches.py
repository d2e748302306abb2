"""Single model calls in pieces: read in the order of the logs, dealt to buckets, and stitched bucket by bucket.

Reading a piece of the logs (pieces.py) writes its calls and judgements as a file of items, with the names that tie them
to others (`ItemFile`). One process deals all items that are tied to each other to one bucket (`deal`). Another process
gives the items of a bucket to a Stitcher in the order of the logs (`stitch_piece`), which so does what the Stitcher of
one process would do with them.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from drift.disk import new_file
from drift.logs.draft import ConversationDraft, Evidence
from drift.logs.files.rows import Reject
from drift.logs.ingestion.job import IngestJob, written_by
from drift.logs.ingestion.outcomes import Detail, Ingestion, ReadCounts
from drift.logs.reading import FILTERED, stitched
from drift.logs.traces.spool import draft_of, evidence_of, line_of
from drift.logs.traces.stitching import Order, Stitched, Stitcher
from drift.logs.traces.ties import Numbers, beginnings, components, scale_of, ties_of
from drift.progress import report_note
from drift.records import Conversation, Reason, read_jsonl
from drift.store import Quarantined, StoreWriter, ranges_for

_PLACES = 2**40  # of one piece: the place of an item is the piece's number times this, and the byte in its file
_OPEN_FILES = 64
_RANGE = np.dtype([("scale", "i8"), ("low", "f8"), ("high", "f8"), ("stars", "?")])


class ItemFile:
    """What a reader makes of a piece of the logs, in order, for other processes. It stands in for their Stitcher."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._size = self._rows = 0
        self._offsets: list[int] = []
        self._asks: list[tuple[int, int]] = []
        self._has: list[tuple[int, int]] = []
        self._after: list[tuple[int, int]] = []
        self._if_first: list[tuple[int, int]] = []
        self._ranges: dict[int, tuple[float, float, bool]] = {}

    def add(self, item: ConversationDraft | Evidence, file: str) -> None:
        """Write an item of the log `file`, and note its names."""
        number, ties = len(self._offsets), ties_of(item)
        self._offsets.append(self._size)
        self._asks += [(number, name) for name in ties.asks]
        self._has += [(number, name) for name in ties.has]
        if ties.after is not None:
            self._after.append((number, ties.after))
        if ties.if_first is not None:
            self._if_first.append((number, ties.if_first))
        self._rows += item.rows
        if isinstance(item, Evidence) and item.scale is not None:
            scale, value, stars = scale_of(item.scale), item.value, item.stars
            low, high, any_stars = self._ranges.get(scale, (value, value, stars))
            self._ranges[scale] = min(low, value), max(high, value), any_stars or stars
        self._size += self._out.write(line_of(item, file))

    def finish(self) -> Stitched:
        """Nothing: other processes stitch. The rows of the items count as used."""
        return Stitched(iter(()), 0, self._rows)

    def close(self) -> None:
        """The file belongs to the caller."""

    def save_names(self, path: Path) -> None:
        """Write the names that tie the items to others, and the ranges of scores."""
        ranges = np.array([(scale, *found) for scale, found in self._ranges.items()], _RANGE)
        offsets = np.array(self._offsets, np.int64)
        asks, has, after, if_first = (
            np.array(pairs, np.int64).reshape(-1, 2) for pairs in (self._asks, self._has, self._after, self._if_first)
        )
        with new_file(path) as new, new.open("wb") as out:
            np.savez(
                out, size=self._size, offsets=offsets, ranges=ranges, asks=asks, has=has, after=after, if_first=if_first
            )


class Items:
    """The items that all pieces wrote: the texts of a Stitcher (spool.py). `before`: of each piece, the lines of its
    file that stand before it."""

    def __init__(self, job: IngestJob, before: Sequence[int]) -> None:
        self._job = job
        self._before = before
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def load(self, place: int) -> tuple[dict[str, Any], str]:
        """The fields of the item at a place, and its log."""
        piece, offset = divmod(place, _PLACES)
        items = self._open(piece)
        items.seek(offset)
        file, item = orjson.loads(items.readline())
        line, element = item["at"]
        item["at"] = (line + self._before[piece], element)
        return item, file

    def draft(self, place: int) -> tuple[ConversationDraft, str]:
        """The draft at a place, and its log."""
        fields, file = self.load(place)
        return draft_of(fields), file

    def item(self, place: int) -> ConversationDraft | Evidence:
        """What stands at a place."""
        fields, _ = self.load(place)
        return draft_of(fields) if "messages" in fields else evidence_of(fields)

    def _open(self, piece: int) -> BinaryIO:
        if piece in self._files:
            self._files.move_to_end(piece)
            return self._files[piece]
        if len(self._files) == _OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        self._files[piece] = self._job.file(piece, "items").open("rb")
        return self._files[piece]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Items of one format that one process stitches. `number`: among all pieces. `dealt`: the number of the format's
    first bucket, whose files say which items each bucket has: those from `start` on and before `stop`."""

    number: int
    form: str
    dealt: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"stitching {self.form}, bucket {self.number - self.dealt + 1}"


@dataclass(frozen=True, slots=True)
class BucketStitched:
    """`first`: where among the outcomes of all buckets each reason was met first."""

    counts: ReadCounts
    first: dict[Reason, Order]


def deal(job: IngestJob, form: str, pieces: Sequence[int], number: int, bucket_bytes: int) -> list[Bucket]:
    """Deal the items of a format to buckets of about `bucket_bytes`. Those that are tied to each other stay together,
    in the order of the logs. `pieces`: the numbers of those that wrote them; `number`: of the first bucket."""
    pairs: dict[str, list[Numbers]] = {"asks": [], "after": [], "if_first": []}
    places, ranges, starts, size = list[Numbers](), list[Any](), [0], 0
    for piece in pieces:
        with np.load(job.file(piece, "names")) as names:
            for kind, found in pairs.items():
                found.append(names[kind] + (starts[-1], 0))
            places.append(names["offsets"] + piece * _PLACES)
            ranges.append(names["ranges"])
            size += int(names["size"])
            starts.append(starts[-1] + len(places[-1]))
    if not starts[-1]:
        return []
    after, if_first = np.concatenate(pairs["after"]), np.concatenate(pairs["if_first"])
    first = beginnings(after, if_first, _has(job, pieces, starts))
    tied = components(starts[-1], [*pairs["asks"], first], _has(job, pieces, starts))
    buckets = ranges_for(size, bucket_bytes)
    _note_largest(form, tied, size, bucket_bytes)
    bucket = (tied & (buckets - 1)).astype(np.int32)
    order = np.argsort(bucket, kind="stable")
    for kind, content in (("dealt", np.concatenate(places)[order]), ("ranges", _merged(np.concatenate(ranges)))):
        with new_file(job.file(number, kind)) as new, new.open("wb") as out:
            np.save(out, content)
    bounds = np.searchsorted(bucket[order], np.arange(buckets + 1))
    filled = np.flatnonzero(np.diff(bounds)).tolist()
    return [Bucket(number + n, form, number, int(bounds[b]), int(bounds[b + 1])) for n, b in enumerate(filled)]


def _has(job: IngestJob, pieces: Sequence[int], starts: Sequence[int]) -> Iterator[Numbers]:
    for piece, start in zip(pieces, starts, strict=False):
        with np.load(job.file(piece, "names")) as names:
            yield names["has"] + (start, 0)


def _note_largest(form: str, tied: Numbers, size: int, bucket_bytes: int) -> None:
    """Say so if one process has to stitch most of the items."""
    largest = int(np.unique(tied, return_counts=True)[1].max())
    if largest * 2 > len(tied) and largest * size > bucket_bytes * len(tied):
        report_note(
            f"{form}: one process stitches {largest:,} of {len(tied):,} model calls and judgements, because a session, "
            "a user's or nobody's first message, a trace or an id ties them together"
        )


def _merged(ranges: Any) -> Any:
    """One range for each score."""
    scales, inverse = np.unique(ranges["scale"], return_inverse=True)
    merged = np.zeros(len(scales), _RANGE)
    merged["scale"], merged["low"], merged["high"] = scales, np.inf, -np.inf
    np.minimum.at(merged["low"], inverse, ranges["low"])
    np.maximum.at(merged["high"], inverse, ranges["high"])
    np.logical_or.at(merged["stars"], inverse, ranges["stars"])
    return merged


def stitch_piece(job: IngestJob, before: Sequence[int], bucket: Bucket) -> BucketStitched:
    """Stitch the items of a bucket, redact the conversations and write them as runs, cut into ranges of ids."""
    ingestion = Ingestion((), None, None, job.settings, job.forgotten)
    first, orders = dict[Reason, Order](), list[Order]()
    with written_by(job, bucket.number, ingestion) as writer:
        items = Items(job, before)
        stitcher = Stitcher(writer.spill, items)
        try:
            for scale, low, high, stars in np.load(job.file(bucket.dealt, "ranges")).tolist():
                stitcher.widen(scale, low, high, stars)
            dealt = np.load(job.file(bucket.dealt, "dealt"), mmap_mode="r")[bucket.start : bucket.stop]
            for place in dealt.tolist():
                item = items.item(place)
                ingestion.reading.rows += item.rows
                stitcher.take(item, place)
            outcomes = stitched(stitcher, job.source or bucket.form, writer.user_key, ingestion.reading)
            ingestion.take(_in_order(outcomes, stitcher, first, orders), writer)
        finally:
            stitcher.close()
        with new_file(job.file(bucket.number, "orders")) as new, new.open("wb") as out:
            np.save(out, np.array(orders, np.int64).reshape(-1, 2))
    return BucketStitched(replace(ingestion.counts(), rows=0), first)


def _in_order(
    outcomes: Iterable[Conversation | Reject], stitcher: Stitcher, first: dict[Reason, Order], orders: list[Order]
) -> Iterator[Conversation | Reject]:
    """The outcomes as they are; `orders` gets where each note belongs among those of all buckets."""
    for outcome in outcomes:
        if isinstance(outcome, Reject):
            first.setdefault(outcome.reason, stitcher.order)
            if outcome.reason not in FILTERED:
                orders.append(stitcher.order)
        yield outcome


def stitched_counts(
    job: IngestJob, buckets: Sequence[Bucket], stitched: Sequence[BucketStitched], writer: StoreWriter
) -> ReadCounts:
    """The counts of all buckets, format by format, with the details that one process would have met first. The notes
    go to the writer, in the order of one process."""
    counts = ReadCounts()
    for _, group in itertools.groupby(zip(buckets, stitched, strict=True), key=lambda pair: pair[0].dealt):
        of_form = list(group)
        best: dict[Reason, tuple[Order, Detail]] = {}
        for _, part in of_form:
            counts = counts.plus(replace(part.counts, details={}))
            for reason, detail in part.counts.details.items():
                found = part.first[reason], detail
                best[reason] = min(best.get(reason, found), found, key=itemgetter(0))
        counts = counts.plus(ReadCounts(details={reason: detail for reason, (_, detail) in best.items()}))
        notes = (_ordered_notes(job, bucket) for bucket, _ in of_form)
        for _, note in heapq.merge(*notes, key=itemgetter(0)):
            writer.quarantine(note)
    return counts


def _ordered_notes(job: IngestJob, bucket: Bucket) -> Iterator[tuple[list[int], Quarantined]]:
    orders = np.load(job.file(bucket.number, "orders")).tolist()
    return zip(orders, read_jsonl(job.file(bucket.number, "notes"), Quarantined), strict=True)
