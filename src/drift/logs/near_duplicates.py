"""Find conversations that nearly repeat another one: MinHash signatures on disk, compared band by band.

Nothing is removed: the store notes which conversation repeats which, and the pairs drop the repeats by name. Paths of
one chat repeat none of each other: each holds turns that the others lack, and turns with the same reply that several of
them hold make one pair.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

from drift.disk import new_file
from drift.engine import current_engine, in_pieces, rare_collections
from drift.records import Conversation, stable_hash
from drift.store import Repeat, Store
from drift.turns import as_text, readable

PERMUTATIONS, BANDS, SHINGLE_WORDS = 64, 16, 4
MIN_SHARED = 0.8  # share of word runs that two conversations have in common, estimated from their signatures
_SEED = 42
_SPACELESS = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
"""Thai, Japanese and Chinese write words without spaces between them: there each character counts as one."""
_SIGNED = np.dtype(
    [
        ("id", "S64"),
        ("signature", np.uint32, PERMUTATIONS),
        ("chat", np.uint64),
        ("messages", np.int64),
        ("start", np.int64),
    ]
)
"""`chat`: the same for the paths of one tree. `start`: where the hashes of its beginnings stand in their file."""
_SIGNATURES_PER_BATCH = 16_384
_RUNS_PER_BATCH = 65_536
_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """`near_duplicates`: how many of all `conversations` nearly repeat another one, that with the most messages (of
    equally long ones, the first by id)."""

    conversations: int
    near_duplicates: int


@rare_collections()
def find_near_duplicates(store: Store) -> NearDuplicates:
    """Note in the store which conversations repeat which. Memory: about 50 bytes per conversation.

    Raises DataError if the store is empty.
    """
    store.require_conversations()
    if current_engine().workers > 1:
        return _find_in_pieces(store)
    with store.scratch() as rows, store.scratch() as beginnings:
        signed = _Signed(rows, beginnings)
        for conversation in store.conversations():
            signed.add(conversation)
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
        in_pieces(sign, list(enumerate(ranges)), SignedRange, folder / "sign", len(ranges))
        _join(folder, len(ranges))
        in_pieces(partial(compare_band, folder), range(BANDS), ComparedBand, folder / "compare", len(ranges))
        with _opened(folder) as signed:
            first = np.arange(len(signed))
            for band in range(BANDS):
                places, leaders = np.load(folder / f"band-{band}.npy")
                unsettled = first[places] == places
                first[places[unsettled]] = leaders[unsettled]
            first = _settled(signed, first)
            repeats = np.flatnonzero(first != np.arange(len(first)))
            found = list(_repeats(signed, first, repeats))
    store.note_repeats(found)
    return NearDuplicates(len(first), len(repeats))


def sign_range(folder: Path, piece: tuple[int, Store]) -> SignedRange:
    """Map: write the signatures of one range of conversations."""
    number, store = piece
    with (
        new_file(folder / f"{number:05d}.signed") as signed_path,
        new_file(folder / f"{number:05d}.beginnings") as beginnings_path,
        signed_path.open("wb") as rows,
        beginnings_path.open("wb") as beginnings,
    ):
        signed = _Signed(rows, beginnings)
        for conversation in store.conversations():
            signed.add(conversation)
        rows.flush()
        beginnings.flush()
        return SignedRange(len(signed))


def _join(folder: Path, ranges: int) -> None:
    """Make one file of the ranges' signatures, and one of their beginnings."""
    with (
        new_file(folder / "signatures") as signed_path,
        new_file(folder / "beginnings") as beginnings_path,
        signed_path.open("wb") as rows,
        beginnings_path.open("wb") as beginnings,
    ):
        for number in range(ranges):
            part = np.fromfile(folder / f"{number:05d}.signed", _SIGNED)
            part["start"] += beginnings.tell() // _HASH_BYTES
            rows.write(part.tobytes())
            with (folder / f"{number:05d}.beginnings").open("rb") as file:
                shutil.copyfileobj(file, beginnings)


@contextmanager
def _opened(folder: Path) -> "Iterator[_Signed]":
    """The signatures of all ranges."""
    path = folder / "signatures"
    with path.open("rb") as rows, (folder / "beginnings").open("rb") as beginnings:
        yield _Signed(rows, beginnings, path.stat().st_size // _SIGNED.itemsize)


def compare_band(folder: Path, band: int) -> ComparedBand:
    """Reduce: in one band, find what is like the longest conversation with the same key; write both places."""
    with _opened(folder) as signed:
        found = list(_alike_in_band(signed, band, np.arange(len(signed))))
    pairs = np.concatenate([*found, np.empty((2, 0), np.int64)], axis=1)
    with new_file(folder / f"band-{band}.npy") as out, out.open("wb") as handle:
        np.save(handle, pairs)
    return ComparedBand(pairs.shape[1])


class _Signed:
    """Ids and signatures in a file, in the order in which they were added, and hashes of all beginnings in another one.
    The files are not memory-mapped: mapped pages count as memory."""

    def __init__(self, rows: IO[bytes], beginnings: IO[bytes], length: int = 0) -> None:
        """`length`: how many rows the file holds already."""
        self._rows_file, self._beginnings = rows, beginnings
        self._length = length
        self._hashes = 0

    def __len__(self) -> int:
        return self._length

    def add(self, conversation: Conversation) -> None:
        hashes = beginnings_of(conversation)
        messages, name = conversation.messages, conversation.conversation_id
        asked = next((place for place, message in enumerate(messages) if message.role == "user"), -1) + 1
        chat = int(stable_hash(name if conversation.family is None else (conversation.family, hashes[asked].hex())), 16)
        row = (name.encode(), signature(conversation), chat, len(messages), self._hashes)
        self._rows_file.write(np.array(row, _SIGNED).tobytes())
        self._beginnings.write(b"".join(hashes))
        self._length += 1
        self._hashes += len(hashes)

    def lengths(self) -> np.ndarray:
        """How many messages each conversation has; int32 [n]."""
        return np.concatenate(
            [block["messages"].astype(np.int32) for block in self.blocks()] or [np.empty(0, np.int32)]
        )

    def of_one_chat(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Are two conversations each paths of one tree (the same family, up to the first request), or does one continue
        the other; bool [n]. An application may log the growing history of a chat under a new id each time."""
        same = rows["chat"] == others["chat"]
        shared = np.minimum(rows["messages"], others["messages"])
        for i in np.flatnonzero(~same & (rows["messages"] != others["messages"])):
            same[i] = self._beginning(rows["start"][i] + shared[i]) == self._beginning(others["start"][i] + shared[i])
        return same

    def _beginning(self, place: int) -> bytes:
        return _read_at(self._beginnings, int(place) * _HASH_BYTES, _HASH_BYTES)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows, _SIGNATURES_PER_BATCH at a time."""
        for begin in range(0, self._length, _SIGNATURES_PER_BATCH):
            yield self._read(begin, min(_SIGNATURES_PER_BATCH, self._length - begin))

    def rows(self, places: np.ndarray) -> np.ndarray:
        return np.concatenate([self._read(place, 1) for place in places.tolist()] or [np.empty(0, _SIGNED)])

    def _read(self, begin: int, count: int) -> np.ndarray:
        size = _SIGNED.itemsize
        return np.frombuffer(_read_at(self._rows_file, begin * size, count * size), _SIGNED)


def _read_at(file: IO[bytes], begin: int, size: int) -> bytes:
    if file.writable():
        file.flush()
    return os.pread(file.fileno(), size, begin)


def beginnings_of(conversation: Conversation) -> list[bytes]:
    """Hashes of its first 0, 1, 2, ... messages. Those of another split differ: a chat of the training split may not
    come back, with a turn more or less, in a held-out one."""
    running = hashlib.blake2b(conversation.split.encode(), digest_size=_HASH_BYTES)
    hashes = [running.digest()]
    for message in conversation.messages:
        running.update(f"{message.role}\0{as_text(message)}\0".encode())
        hashes.append(running.digest())
    return hashes


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
    """For each conversation the place of the longest one that it nearly repeats, or its own; int64 [n]."""
    first = np.arange(len(signed))
    for band in range(BANDS):
        for places, leaders in _alike_in_band(signed, band, first):
            first[places] = leaders
    return _settled(signed, first)


def _alike_in_band(signed: _Signed, band: int, first: np.ndarray) -> Iterator[np.ndarray]:
    """Yield places, and those of the longest conversation with the same key in this band, where both are alike and of
    different chats; int64 [2, n]. Places that have another one in `first` are left out."""
    rows = PERMUTATIONS // BANDS
    keys = _band_keys(signed, slice(band * rows, (band + 1) * rows))
    order = np.lexsort((-signed.lengths(), keys))  # stable: equally long ones in the order of ids
    starts = np.r_[True, keys[order][1:] != keys[order][:-1]]
    leaders = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    unsettled = (order != leaders) & (first[order] == order)
    for batch in np.array_split(np.flatnonzero(unsettled), max(unsettled.sum() // _SIGNATURES_PER_BATCH, 1)):
        rows, others = signed.rows(order[batch]), signed.rows(leaders[batch])
        alike = (rows["signature"] == others["signature"]).mean(axis=1) >= MIN_SHARED
        pairs = np.stack((order[batch][alike], leaders[batch][alike]))
        yield pairs[:, ~signed.of_one_chat(rows[alike], others[alike])]


def _settled(signed: _Signed, first: np.ndarray) -> np.ndarray:
    """Each place's first one, where `first` may name one that repeats another one itself; its own, if that one is of
    the same chat."""
    while (first[first] != first).any():
        first = first[first]
    repeats = np.flatnonzero(first != np.arange(len(first)))
    for batch in np.array_split(repeats, max(len(repeats) // _SIGNATURES_PER_BATCH, 1)):
        own = batch[signed.of_one_chat(signed.rows(batch), signed.rows(first[batch]))]
        first[own] = own
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


def _repeats(signed: _Signed, first: np.ndarray, repeats: np.ndarray) -> Iterator[Repeat]:
    for begin in range(0, len(repeats), _SIGNATURES_PER_BATCH):
        batch = repeats[begin : begin + _SIGNATURES_PER_BATCH]
        rows, firsts = signed.rows(batch), signed.rows(first[batch])
        shares = (rows["signature"] == firsts["signature"]).mean(axis=1).tolist()
        for name, of, alike in zip(rows["id"].tolist(), firsts["id"].tolist(), shares, strict=True):
            yield Repeat(name.decode(), of.decode(), round(alike, 3))
