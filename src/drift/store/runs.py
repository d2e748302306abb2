"""External merge sort: conversations sorted in memory and written out as runs, then merged by id with stored files.

Runs that other processes merge are cut at the borders of ranges of ids and compressed; a file of them ends with a table
of its blocks, so that a range is read without the rest.
"""

import itertools
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from drift.records import Conversation
from drift.store.rows import ALL_IDS, CONVERSATION, IdRange, conversation_batch, slices

RUN_CHARACTERS = 12_000_000  # characters of text that are sorted in memory before a run goes to disk
READ_BYTES = 2**17  # of each run in memory while runs are merged: there may be hundreds of them
WINDOW_BYTES = 2**23  # of all runs together that are merged at once

MOST_RANGES = 2**12
Block = tuple[int, int, int, int, int]
"""Of a run: the number of its range, of its run, its place in the file, its size there, and its size unpacked."""
Run = Iterator[pa.RecordBatch]
_id = attrgetter("conversation_id")


class Runs:
    """Sorted runs of conversations, one behind another in one file. Each is read batch by batch."""

    def __init__(self, file: BinaryIO, ranges: int | None = None) -> None:
        """`ranges`: cut the runs into so many ranges of ids (`id_ranges`), for other processes (`close`)."""
        self.bytes = 0
        self._file = file
        self._packed = ranges is not None
        self._ends = [end for _, end in id_ranges(ranges or 1)]
        self._runs: list[list[Block]] = []
        self._pending: list[Conversation] = []
        self._characters = 0

    def add(self, conversation: Conversation) -> None:
        self._pending.append(conversation)
        messages = conversation.messages
        self._characters += 200 + sum([m.size if m.tool_calls or m.reasoning else len(m.content) for m in messages])
        if self._characters >= RUN_CHARACTERS:
            self._write_run()

    def finish(self) -> list[Run]:
        """All runs, each ordered by id."""
        if self._pending:
            self._write_run()
        self._file.flush()
        handle = self._file.fileno()
        return [_read(handle, blocks, packed=False) for blocks in self._runs]

    def close(self) -> None:
        """Complete the file with the table of its blocks, ordered by range, and with where each range begins in it."""
        if self._pending:
            self._write_run()
        table = np.array(sorted(itertools.chain(*self._runs)), np.int64).reshape(-1, 5)
        starts = np.searchsorted(table[:, 0], np.arange(len(self._ends) + 1)).astype(np.int64)
        self._file.write(table.tobytes() + starts.tobytes() + np.array(len(starts), np.int64).tobytes())
        self._file.flush()

    def _write_run(self) -> None:
        self._pending.sort(key=_id)  # a stable sort: versions of one conversation stay in the order they came in
        rows = conversation_batch(self._pending)
        run, blocks = len(self._runs), list[Block]()
        for number, (begin, stop) in enumerate(self._cuts()):
            for batch in slices(rows.slice(begin, stop - begin), READ_BYTES) if stop > begin else ():
                raw = batch.serialize()
                content = pa.compress(raw, "lz4_raw") if self._packed else raw
                written = self._file.write(content)
                blocks.append((number, run, self.bytes, written, raw.size))
                self.bytes += written
        self._runs.append(blocks)
        self._pending, self._characters = [], 0

    def _cuts(self) -> Iterator[tuple[int, int]]:
        begin = 0
        for end in self._ends:
            stop = len(self._pending) if end is None else bisect_left(self._pending, end, begin, key=_id)
            yield begin, stop
            begin = stop


@dataclass(frozen=True, slots=True)
class RunsOfRange:
    """The runs of a completed file in one range of ids. `bytes`: unpacked."""

    runs: list[Run]
    bytes: int


def runs_in(path: Path, number: int) -> RunsOfRange:
    """Find the runs of a completed file in the range of this number. Its blocks are read when their turn comes."""
    with path.open("rb") as file:
        handle, end = file.fileno(), os.fstat(file.fileno()).st_size
        (ranges,) = _numbers(handle, end - 8, 1)
        starts = end - 8 - 8 * ranges
        first, last = _numbers(handle, starts + 8 * number, 2)
        (blocks,) = _numbers(handle, end - 16, 1)  # of the whole file: the last start is its end
        table = _numbers(handle, starts - 40 * (blocks - first), 5 * (last - first)).reshape(-1, 5)
    runs = np.split(table, np.flatnonzero(np.diff(table[:, 1])) + 1) if len(table) else []
    return RunsOfRange([_read_from(path, run.tolist()) for run in runs], int(table[:, 4].sum()))


def _read_from(path: Path, blocks: Sequence[Sequence[int]]) -> Run:
    """The blocks of a run, each with the file open for a moment: there may be more files than a process may open."""
    for block in blocks:
        with path.open("rb") as file:
            yield from _read(file.fileno(), [block], packed=True)


def _numbers(handle: int, place: int, count: int) -> np.ndarray:
    return np.frombuffer(os.pread(handle, 8 * count, place), np.int64)


def _read(handle: int, blocks: Sequence[Sequence[int]], *, packed: bool) -> Run:
    for _, _, place, size, unpacked in blocks:
        raw = pa.py_buffer(os.pread(handle, size, place))
        raw = pa.decompress(raw, unpacked, "lz4_raw") if packed else raw
        yield pa.ipc.read_record_batch(raw, CONVERSATION)


def id_ranges(count: int) -> list[IdRange]:
    """Ranges of ids with about the same number of ids in each: ids are hashes. `count`: a power of two."""
    firsts = [f"{number * 2**16 // count:04x}" for number in range(1, count)]
    return list(zip(["", *firsts], [*firsts, None], strict=True))


def ranges_for(size: int, each: int) -> int:
    """The number of ranges, a power of two, of which each holds at most `each` of `size` (bytes or rows)."""
    return min(1 << max(-(-size // each) - 1, 0).bit_length(), MOST_RANGES)


def merged(runs: Sequence[Run], size: int, ids: IdRange = ALL_IDS) -> Iterator[tuple[list[pa.RecordBatch], ...]]:
    """Yield windows over the sorted ids: the batches that each run has in that window. `size`: bytes of all runs.

    Ids are hashes, so windows of equal width hold about the same number of rows. `ids`: the range that the runs are of.
    """
    windows = size // WINDOW_BYTES + 1
    first, last = int(ids[0] or "0", 16), int(ids[1] or "10000", 16)
    ends = [f"{first + number * (last - first) // windows:04x}" for number in range(1, windows)]
    return zip(*(_cut(run, [*ends, None]) for run in runs), strict=True)


def _cut(run: Run, ends: Sequence[str | None]) -> Iterator[list[pa.RecordBatch]]:
    """Yield a run's rows from one end to the next. An end is an id, or None for the end of the run."""
    batch, ids, start = next(run, None), [], 0
    for end in ends:
        window: list[pa.RecordBatch] = []
        while batch is not None:
            ids = ids or batch["conversation_id"].to_pylist()
            stop = len(ids) if end is None else bisect_left(ids, end, start)
            if stop > start:
                window.append(batch.slice(start, stop - start))
            if stop < len(ids):
                start = stop
                break
            batch, ids, start = next(run, None), [], 0
        yield window
