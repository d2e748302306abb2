"""Conversations that say nearly the same as an earlier one: MinHash signatures on disk, compared band by band.

Nothing is removed: the store notes which conversation repeats which, and the pairs leave the repeats out by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

from drift.records import Conversation
from drift.store import Repeat, Store

PERMUTATIONS, BANDS, SHINGLE = 64, 16, 4
ALIKE = 0.8  # share of word runs that two conversations have in common, estimated from their signatures
_SEED = 42
_ID_BYTES = 64
_TOGETHER = 16_384


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """`near_duplicates`: conversations that repeat an earlier one (in the order of ids), of all `conversations`."""

    conversations: int
    near_duplicates: int


def find_near_duplicates(store: Store) -> NearDuplicates:
    """Note in the store which conversations repeat which. Memory: some 40 bytes per conversation.

    Raises DataError if the store is empty.
    """
    store.require_conversations()
    with store.scratch() as names, store.scratch() as signed:
        ids, signatures = _write_signatures(store, names, signed)
        first = _first_alike(signatures)
        store.note_repeats(_repeats(ids, signatures, first))
        return NearDuplicates(len(ids), int((first != np.arange(len(first))).sum()))


def _write_signatures(store: Store, names: IO[bytes], signed: IO[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Ids [n] and signatures uint32 [n, PERMUTATIONS], both on disk."""
    for conversation in store.conversations():
        names.write(conversation.conversation_id.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"\0"))
        signed.write(signature(conversation).tobytes())
    names.flush()
    signed.flush()
    ids = np.memmap(names, dtype=f"S{_ID_BYTES}", mode="r")
    return ids, np.memmap(signed, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)


def signature(conversation: Conversation) -> np.ndarray:
    """uint32 [PERMUTATIONS], of runs of SHINGLE words; of all words where there are fewer."""
    words = " ".join(message.content for message in conversation.messages).lower().split()
    runs = map(" ".join, zip(*(words[first:] for first in range(SHINGLE)), strict=False))
    hashed = RMinHash(num_perm=PERMUTATIONS, seed=_SEED)
    hashed.update(list(runs) or [" ".join(words)])
    return np.asarray(hashed.digest(), np.uint32)


def _first_alike(signatures: np.ndarray) -> np.ndarray:
    """For each conversation the first one that it repeats, itself if none; int64 [n]."""
    first = np.arange(len(signatures))
    rows = PERMUTATIONS // BANDS
    for band in range(BANDS):
        keys = _band_keys(signatures, slice(band * rows, (band + 1) * rows))
        order = np.argsort(keys, kind="stable")
        starts = np.r_[True, keys[order][1:] != keys[order][:-1]]
        leaders = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
        unsettled = (order != leaders) & (first[order] == order)
        for some in np.array_split(np.flatnonzero(unsettled), max(unsettled.sum() // _TOGETHER, 1)):
            alike = (signatures[order[some]] == signatures[leaders[some]]).mean(axis=1) >= ALIKE
            first[order[some][alike]] = leaders[some][alike]
    while (first[first] != first).any():
        first = first[first]
    return first


def _band_keys(signatures: np.ndarray, columns: slice) -> np.ndarray:
    keys = np.zeros(len(signatures), np.uint64)
    with np.errstate(over="ignore"):
        for begin in range(0, len(signatures), _TOGETHER):
            for column in signatures[begin : begin + _TOGETHER, columns].T:
                part = keys[begin : begin + _TOGETHER]
                part *= np.uint64(0x9E3779B97F4A7C15)
                part ^= column.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    return keys


def _repeats(ids: np.ndarray, signatures: np.ndarray, first: np.ndarray) -> Iterator[Repeat]:
    for place in np.flatnonzero(first != np.arange(len(first))):
        alike = float((signatures[place] == signatures[first[place]]).mean())
        yield Repeat(bytes(ids[place]).decode(), bytes(ids[first[place]]).decode(), round(alike, 3))
