"""Sorted runs: what is on its way into a store and does not fit into memory, merged with what is stored by the ids."""

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa

from drift.records import Conversation
from drift.store.rows import CONVERSATION, conversation_batch, joined, slices

BATCH_CHARACTERS = 4_000_000  # that become columns at once: so many that what a batch itself costs does not count
RUN_BYTES = 2**24  # that are sorted in memory before they go to disk
READ_BYTES = 2**17  # of each run that is in memory while they are merged: there may be hundreds
WINDOW_BYTES = 2**23  # of all runs together that are merged at a time

Run = Iterator[pa.RecordBatch]


class Runs:
    """Runs of conversations, one behind another in one file; each is read batch by batch."""

    def __init__(self, file: BinaryIO) -> None:
        self.bytes = 0
        self._file = file
        self._runs: list[list[tuple[int, int]]] = []
        self._pending: list[Conversation] = []
        self._characters = 0
        self._batches: list[pa.RecordBatch] = []
        self._held = 0

    def add(self, conversation: Conversation) -> None:
        self._pending.append(conversation)
        self._characters += 200 + sum([len(message.content) for message in conversation.messages])
        if self._characters >= BATCH_CHARACTERS:
            self._pack()

    def finish(self) -> list[Run]:
        """All runs, each ordered by id."""
        if self._pending:
            self._pack()
        if self._batches:
            self._write_run()
        self._file.flush()
        return [self._read(places) for places in self._runs]

    def _pack(self) -> None:
        batch = conversation_batch(self._pending)
        self._batches.append(batch)
        self._held += batch.nbytes
        self._pending, self._characters = [], 0
        if self._held >= RUN_BYTES:
            self._write_run()

    def _write_run(self) -> None:
        rows, self._batches, self._held = joined(self._batches), [], 0
        names = rows["conversation_id"].to_pylist()
        places = []
        for some in slices(rows.take(sorted(range(len(names)), key=names.__getitem__)), READ_BYTES):
            (batch,) = some.to_batches()
            written = self._file.write(batch.serialize())
            places.append((self.bytes, written))
            self.bytes += written
        self._runs.append(places)

    def _read(self, places: list[tuple[int, int]]) -> Run:
        for place, size in places:
            raw = os.pread(self._file.fileno(), size, place)
            yield pa.ipc.read_record_batch(pa.py_buffer(raw), CONVERSATION)


def merged(runs: Sequence[Run], size: int) -> Iterator[tuple[list[pa.RecordBatch], ...]]:
    """Windows over the ids, in their order: what each run has in it. `size`: bytes of all runs.

    Ids are hashes, so that windows of equal width hold about the same number of rows.
    """
    windows = size // WINDOW_BYTES + 1
    ends = [f"{number * 2**16 // windows:04x}" for number in range(1, windows)]
    return zip(*(_cut(run, [*ends, None]) for run in runs), strict=True)


def _cut(run: Run, ends: Sequence[str | None]) -> Iterator[list[pa.RecordBatch]]:
    """The rows before each end (which is an id; None: the end of the run), from the one before it on."""
    rest = next(run, None)
    for end in ends:
        found: list[pa.RecordBatch] = []
        while rest is not None:
            ids = rest["conversation_id"].to_pylist()
            stop = len(ids) if end is None else bisect_left(ids, end)
            found.append(rest.slice(0, stop))
            if stop < len(ids):
                rest = rest.slice(stop)
                break
            rest = next(run, None)
        yield found
