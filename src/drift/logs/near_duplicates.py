"""Find conversations that nearly repeat an earlier one: MinHash signatures on disk, compared band by band.

Nothing is removed: the store notes which conversation repeats which, and the pairs drop the repeats by name.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

from drift.disk import new_file
from drift.engine import current_engine, in_pieces, rare_collections
from drift.records import Conversation
from drift.store import Repeat, Store
from drift.turns import as_text, readable

PERMUTATIONS, BANDS, SHINGLE_WORDS = 64, 16, 4
MIN_SHARED = 0.8  # share of word runs that two conversations have in common, estimated from their signatures
_SEED = 42
_SPACELESS = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
"""Thai, Japanese and Chinese write words without spaces between them: there each character counts as one."""
_SIGNED = np.dtype([("id", "S64"), ("signature", np.uint32, PERMUTATIONS)])
_SIGNATURES_PER_BATCH = 16_384
_RUNS_PER_BATCH = 65_536


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """`near_duplicates`: how many of all `conversations` nearly repeat an earlier one (in the order of ids)."""

    conversations: int
    near_duplicates: int


@rare_collections()
def find_near_duplicates(store: Store) -> NearDuplicates:
    """Note in the store which conversations repeat which. Memory: about 40 bytes per conversation.

    Raises DataError if the store is empty.
    """
    store.require_conversations()
    if current_engine().workers > 1:
        return _find_in_pieces(store)
    with store.scratch() as file:
        signed = _Signed(file)
        for conversation in store.conversations():
            signed.add(conversation.conversation_id, signature(conversation))
        first = _first_alike(signed)
        repeats = np.flatnonzero(first != np.arange(len(first)))
        store.note_repeats(_repeats(signed, first, repeats))
        return NearDuplicates(len(signed), len(repeats))


@dataclass(frozen=True, slots=True)
class SignedRange:
    """`count`: the conversations of one range, whose signatures were written."""

    count: int


@dataclass(frozen=True, slots=True)
class ComparedBand:
    """`alike`: the pairs of conversations that agree in one band and are alike."""

    alike: int


def _find_in_pieces(store: Store) -> NearDuplicates:
    """The same repeats with the current engine: signatures by range of ids, then comparison by band.

    A band needs no other band: of each conversation the first band with an answer counts, as in one process.
    """
    ranges = [store.within(ids) for ids in store.id_ranges()]
    with store.pieces("near-duplicates", len(ranges)) as folder:
        sign = partial(sign_range, folder)
        done = in_pieces(sign, list(enumerate(ranges)), SignedRange, folder / "sign", len(ranges))
        with new_file(folder / "signatures") as path, path.open("wb") as out:
            for number in range(len(ranges)):
                with (folder / f"{number:05d}.signed").open("rb") as part:
                    shutil.copyfileobj(part, out)
        in_pieces(partial(compare_band, folder), range(BANDS), ComparedBand, folder / "compare", len(ranges))
        with (folder / "signatures").open("rb") as file:
            signed = _Signed(file, sum(piece.count for piece in done))
            first = np.arange(len(signed))
            for band in range(BANDS):
                places, leaders = np.load(folder / f"band-{band}.npy")
                unsettled = first[places] == places
                first[places[unsettled]] = leaders[unsettled]
            first = _to_the_first(first)
            repeats = np.flatnonzero(first != np.arange(len(first)))
            found = list(_repeats(signed, first, repeats))
    store.note_repeats(found)
    return NearDuplicates(len(first), len(repeats))


def sign_range(folder: Path, piece: tuple[int, Store]) -> SignedRange:
    """Map: write the signatures of one range of conversations."""
    number, store = piece
    with new_file(folder / f"{number:05d}.signed") as path, path.open("wb") as file:
        signed = _Signed(file)
        for conversation in store.conversations():
            signed.add(conversation.conversation_id, signature(conversation))
        file.flush()
        return SignedRange(len(signed))


def compare_band(folder: Path, band: int) -> ComparedBand:
    """Reduce: in one band, find the conversations that are like the first one with the same key; write both places."""
    path = folder / "signatures"
    with path.open("rb") as file:
        signed = _Signed(file, path.stat().st_size // _SIGNED.itemsize)
        found = list(_alike_in_band(signed, band, np.arange(len(signed))))
    pairs = np.concatenate([*found, np.empty((2, 0), np.int64)], axis=1)
    with new_file(folder / f"band-{band}.npy") as out, out.open("wb") as handle:
        np.save(handle, pairs)
    return ComparedBand(pairs.shape[1])


class _Signed:
    """Ids and signatures in a file, in the order in which they were added. The file is not memory-mapped: mapped pages
    count as memory."""

    def __init__(self, file: IO[bytes], length: int = 0) -> None:
        """`length`: how many the file holds already."""
        self._file = file
        self._length = length

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
        if self._file.writable():
            self._file.flush()
        return np.frombuffer(os.pread(self._file.fileno(), count * _SIGNED.itemsize, begin * _SIGNED.itemsize), _SIGNED)


def signature(conversation: Conversation) -> np.ndarray:
    """MinHash signature, uint32 [PERMUTATIONS], of runs of SHINGLE_WORDS words; of all words if there are fewer.

    Tool calls are read with their arguments; thoughts are not: the same chat with other thoughts repeats it.
    """
    text = readable(" ".join(map(as_text, conversation.messages)))
    words = (text if text.isascii() else _SPACELESS.sub(r" \g<0> ", text)).split()
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
    for band in range(BANDS):
        for places, leaders in _alike_in_band(signed, band, first):
            first[places] = leaders
    return _to_the_first(first)


def _alike_in_band(signed: _Signed, band: int, first: np.ndarray) -> Iterator[np.ndarray]:
    """Yield places, and those of the first conversation with the same key in this band, where both are alike; int64
    [2, n]. Places that have another one in `first` are left out."""
    rows = PERMUTATIONS // BANDS
    keys = _band_keys(signed, slice(band * rows, (band + 1) * rows))
    order = np.argsort(keys, kind="stable")
    starts = np.r_[True, keys[order][1:] != keys[order][:-1]]
    leaders = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    unsettled = (order != leaders) & (first[order] == order)
    for batch in np.array_split(np.flatnonzero(unsettled), max(unsettled.sum() // _SIGNATURES_PER_BATCH, 1)):
        alike = _alike(signed, order[batch], leaders[batch]) >= MIN_SHARED
        yield np.stack((order[batch][alike], leaders[batch][alike]))


def _to_the_first(first: np.ndarray) -> np.ndarray:
    """Each place's first one, where `first` may name one that has an earlier one itself."""
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
