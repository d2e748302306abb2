"""External merge sort: conversations sorted in memory and written out as runs, then merged by id with stored files."""

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import BinaryIO

import pyarrow as pa

from drift.records import Conversation
from drift.store.rows import CONVERSATION, conversation_batch, slices

RUN_CHARACTERS = 12_000_000  # characters of text that are sorted in memory before a run goes to disk
READ_BYTES = 2**17  # of each run in memory while runs are merged: there may be hundreds of them
WINDOW_BYTES = 2**23  # of all runs together that are merged at once

Run = Iterator[pa.RecordBatch]
_id = attrgetter("conversation_id")


class Runs:
    """Sorted runs of conversations, one behind another in one file. Each is read batch by batch."""

    def __init__(self, file: BinaryIO) -> None:
        self.bytes = 0
        self._file = file
        self._runs: list[list[tuple[int, int]]] = []
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
        return [self._read(places) for places in self._runs]

    def _write_run(self) -> None:
        self._pending.sort(key=_id)  # a stable sort: versions of one conversation stay in the order they came in
        places = []
        for batch in slices(conversation_batch(self._pending), READ_BYTES):
            written = self._file.write(batch.serialize())
            places.append((self.bytes, written))
            self.bytes += written
        self._runs.append(places)
        self._pending, self._characters = [], 0

    def _read(self, places: list[tuple[int, int]]) -> Run:
        for place, size in places:
            raw = os.pread(self._file.fileno(), size, place)
            yield pa.ipc.read_record_batch(pa.py_buffer(raw), CONVERSATION)


def merged(runs: Sequence[Run], size: int) -> Iterator[tuple[list[pa.RecordBatch], ...]]:
    """Yield windows over the sorted ids: the batches that each run has in that window. `size`: bytes of all runs.

    Ids are hashes, so windows of equal width hold about the same number of rows.
    """
    windows = size // WINDOW_BYTES + 1
    ends = [f"{number * 2**16 // windows:04x}" for number in range(1, windows)]
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
