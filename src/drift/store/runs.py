"""Sorted runs: what is on its way into a store and does not fit into memory, merged with what is stored by the ids."""

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import BinaryIO

import pyarrow as pa

from drift.records import Conversation
from drift.store.rows import CONVERSATION, conversation_batch, slices

RUN_CHARACTERS = 12_000_000  # that are sorted in memory and become columns together before they go to disk
READ_BYTES = 2**17  # of each run that is in memory while they are merged: there may be hundreds
WINDOW_BYTES = 2**23  # of all runs together that are merged at a time

Run = Iterator[pa.RecordBatch]
_id = attrgetter("conversation_id")


class Runs:
    """Runs of conversations, one behind another in one file; each is read batch by batch."""

    def __init__(self, file: BinaryIO) -> None:
        self.bytes = 0
        self._file = file
        self._runs: list[list[tuple[int, int]]] = []
        self._pending: list[Conversation] = []
        self._characters = 0

    def add(self, conversation: Conversation) -> None:
        self._pending.append(conversation)
        self._characters += 200 + sum([len(message.content) for message in conversation.messages])
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
    """Windows over the ids, in their order: what each run has in it. `size`: bytes of all runs.

    Ids are hashes, so that windows of equal width hold about the same number of rows.
    """
    windows = size // WINDOW_BYTES + 1
    ends = [f"{number * 2**16 // windows:04x}" for number in range(1, windows)]
    return zip(*(_cut(run, [*ends, None]) for run in runs), strict=True)


def _cut(run: Run, ends: Sequence[str | None]) -> Iterator[list[pa.RecordBatch]]:
    """The rows before each end (which is an id; None: the end of the run), from the one before it on."""
    batch, ids, start = next(run, None), [], 0
    for end in ends:
        found: list[pa.RecordBatch] = []
        while batch is not None:
            ids = ids or batch["conversation_id"].to_pylist()
            stop = len(ids) if end is None else bisect_left(ids, end, start)
            if stop > start:
                found.append(batch.slice(start, stop - start))
            if stop < len(ids):
                start = stop
                break
            batch, ids, start = next(run, None), [], 0
        yield found
