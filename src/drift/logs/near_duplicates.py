"""Find conversations that nearly repeat an earlier one: MinHash signatures on disk, compared band by band.

Nothing is removed: the store notes which conversation repeats which, and the pairs drop the repeats by name.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO

import numpy as np
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

from drift.records import Conversation
from drift.store import Repeat, Store
from drift.turns import as_text

PERMUTATIONS, BANDS, SHINGLE_WORDS = 64, 16, 4
MIN_SHARED = 0.8  # share of word runs that two conversations have in common, estimated from their signatures
_SEED = 42
_SIGNED = np.dtype([("id", "S64"), ("signature", np.uint32, PERMUTATIONS)])
_SIGNATURES_PER_BATCH = 16_384
_RUNS_PER_BATCH = 65_536


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """`near_duplicates`: how many of all `conversations` nearly repeat an earlier one (in the order of ids)."""

    conversations: int
    near_duplicates: int


def find_near_duplicates(store: Store) -> NearDuplicates:
    """Note in the store which conversations repeat which. Memory: about 40 bytes per conversation.

    Raises DataError if the store is empty.
    """
    store.require_conversations()
    with store.scratch() as file:
        signed = _Signed(file)
        for conversation in store.conversations():
            signed.add(conversation.conversation_id, signature(conversation))
        first = _first_alike(signed)
        repeats = np.flatnonzero(first != np.arange(len(first)))
        store.note_repeats(_repeats(signed, first, repeats))
        return NearDuplicates(len(signed), len(repeats))


class _Signed:
    """Ids and signatures in a file, in the order in which they were added. The file is not memory-mapped: mapped pages
    count as memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, name: str, signed: np.ndarray) -> None:
        self._file.write(np.array((name.encode(), signed), _SIGNED).tobytes())
        self._length += 1

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows, _SIGNATURES_PER_BATCH at a time."""
        for begin in range(0, self._length, _SIGNATURES_PER_BATCH):
            yield self._read(begin, min(_SIGNATURES_PER_BATCH, self._length - begin))

    def rows(self, places: np.ndarray) -> np.ndarray:
        return np.concatenate([self._read(place, 1) for place in places.tolist()] or [np.empty(0, _SIGNED)])

    def _read(self, begin: int, count: int) -> np.ndarray:
        self._file.flush()
        return np.frombuffer(os.pread(self._file.fileno(), count * _SIGNED.itemsize, begin * _SIGNED.itemsize), _SIGNED)


def signature(conversation: Conversation) -> np.ndarray:
    """MinHash signature, uint32 [PERMUTATIONS], of runs of SHINGLE_WORDS words; of all words if there are fewer.

    Tool calls are read with their arguments; thoughts are not: the same chat with other thoughts repeats it.
    """
    words = " ".join(map(as_text, conversation.messages)).lower().split()
    runs = map(" ".join, zip(*(words[first:] for first in range(SHINGLE_WORDS)), strict=False))
    hashed = RMinHash(num_perm=PERMUTATIONS, seed=_SEED)
    if len(words) < SHINGLE_WORDS:
        hashed.update([" ".join(words)])
    while batch := list(islice(runs, _RUNS_PER_BATCH)):  # all runs of a chat of megabytes would take gigabytes
        hashed.update(batch)
    return np.asarray(hashed.digest(), np.uint32)


def _first_alike(signed: _Signed) -> np.ndarray:
    """For each conversation the place of the first one that it nearly repeats, or its own; int64 [n]."""
    first = np.arange(len(signed))
    rows = PERMUTATIONS // BANDS
    for band in range(BANDS):
        keys = _band_keys(signed, slice(band * rows, (band + 1) * rows))
        order = np.argsort(keys, kind="stable")
        starts = np.r_[True, keys[order][1:] != keys[order][:-1]]
        leaders = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
        unsettled = (order != leaders) & (first[order] == order)
        for batch in np.array_split(np.flatnonzero(unsettled), max(unsettled.sum() // _SIGNATURES_PER_BATCH, 1)):
            alike = _alike(signed, order[batch], leaders[batch]) >= MIN_SHARED
            first[order[batch][alike]] = leaders[batch][alike]
    while (first[first] != first).any():
        first = first[first]
    return first


def _band_keys(signed: _Signed, columns: slice) -> np.ndarray:
    """One hash per conversation over these columns of its signature; uint64 [n]."""
    keys = np.zeros(len(signed), np.uint64)
    done = 0
    with np.errstate(over="ignore"):
        for block in signed.blocks():
            part = keys[done : done + len(block)]
            for column in block["signature"][:, columns].T:
                part *= np.uint64(0x9E3779B97F4A7C15)
                part ^= column.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
            done += len(block)
    return keys


def _alike(signed: _Signed, places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of equal entries in the signatures of two conversations each; float64 [n]."""
    return (signed.rows(places)["signature"] == signed.rows(others)["signature"]).mean(axis=1)


def _repeats(signed: _Signed, first: np.ndarray, repeats: np.ndarray) -> Iterator[Repeat]:
    for begin in range(0, len(repeats), _SIGNATURES_PER_BATCH):
        batch = repeats[begin : begin + _SIGNATURES_PER_BATCH]
        names, firsts = signed.rows(batch)["id"].tolist(), signed.rows(first[batch])["id"].tolist()
        shares = _alike(signed, batch, first[batch]).tolist()
        for name, of, alike in zip(names, firsts, shares, strict=True):
            yield Repeat(name.decode(), of.decode(), round(alike, 3))
