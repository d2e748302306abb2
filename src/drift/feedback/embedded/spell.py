"""Splits a batch of texts into hashed words: bytes in one buffer, classes by table, hashes by sums over runs of bytes.

No word becomes a Python object, which is what makes labelling fast: a word is its hash, and the words that the
labeller knows by name (book/words.txt, book/lexicon.txt) are found by a table of hashes.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drift.feedback.embedded.book import read_sections

HEAD, TAIL = 160, 80  # characters of a long text that are read
LONGEST, STEM = 24, 5  # letters of a word that are hashed
TABLE_BITS = 19

LETTER, DIGIT, STOP, MARK, BREAK, OTHER = range(1, 7)


def _table(default: int, classes: dict[str, int]) -> np.ndarray:
    table = np.full(256, default, dtype=np.uint8)
    for characters, value in classes.items():
        table[list(characters.encode())] = value
    return table


_KIND = _table(0, {"abcdefghijklmnopqrstuvwxyz": LETTER, "0123456789": DIGIT, ".,:;": STOP, "?!": MARK, "\n": BREAK})
_KIND[128:] = OTHER
_LOWER = np.arange(256, dtype=np.uint8)
_LOWER[ord("A") : ord("Z") + 1] += 32
_KIND[ord("A") : ord("Z") + 1] = LETTER
CAPITAL = _table(0, {"ABCDEFGHIJKLMNOPQRSTUVWXYZ": 1})
CODE = _table(0, {"{}[]()<>=;_/\\`|$#@*+": 1})
_POWERS = np.cumprod(np.full(LONGEST, 0x01000193, dtype=np.uint32), dtype=np.uint32)
_POWERS = np.concatenate((_POWERS, np.zeros(1, dtype=np.uint32)))  # what comes after LONGEST letters does not count
_NUMBERS = np.asarray([(0x51ED270B * (i + 1)) & 0xFFFFFFFF for i in range(5)], dtype=np.uint32)


def cut(text: str) -> str:
    """The beginning and the end of a long message: that is where people say what they think of a reply."""
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n{text[-TAIL:]}"
    return text if text.isascii() else text.replace("’", "'")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of some texts, in order; punctuation and numbers are words.

    Each [n]: `hashes` uint32, numbers by their value; `shapes` uint32, numbers by their length; `stems` uint32, of the
    first letters; `kinds` uint8, LETTER to OTHER; `known` int32, the row in KNOWN (0: not there); `owners` int32, the
    text. Each [texts]: `counts` int64, words; `size` int64, bytes. `raw` uint8 holds the texts, one more byte each.
    """

    hashes: np.ndarray
    shapes: np.ndarray
    stems: np.ndarray
    kinds: np.ndarray
    known: np.ndarray
    owners: np.ndarray
    counts: np.ndarray
    size: np.ndarray
    raw: np.ndarray

    def starts(self) -> np.ndarray:
        """int64 [texts]: the place of the first word."""
        return np.cumsum(self.counts) - self.counts

    def places(self) -> np.ndarray:
        """int64 [n]: 0 for the first word of its text."""
        return np.arange(len(self.owners), dtype=np.int32) - np.repeat(self.starts(), self.counts).astype(np.int32)

    def first(self, texts: int) -> "Words":
        """The words of the first texts."""
        parts = (self.hashes, self.shapes, self.stems, self.kinds, self.known, self.owners)
        counts, size = self.counts[:texts], self.size[:texts]
        n = int(counts.sum())
        hashes, shapes, stems, kinds, known, owners = (part[:n] for part in parts)
        return Words(hashes, shapes, stems, kinds, known, owners, counts, size, self.raw[: int(size.sum()) + texts])

    def pick(self, texts: np.ndarray) -> tuple["Words", np.ndarray]:
        """The words of the chosen texts, in this order, without the texts' bytes; and the indices of these words."""
        counts, starts = self.counts[texts], self.starts()[texts]
        chosen = np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        parts = (self.hashes, self.shapes, self.stems, self.kinds, self.known)
        hashes, shapes, stems, kinds, known = (part[chosen] for part in parts)
        owners = np.repeat(np.arange(len(texts), dtype=np.int32), counts)
        nothing = np.zeros_like(counts)
        return Words(hashes, shapes, stems, kinds, known, owners, counts, nothing, self.raw[:0]), chosen

    def speaks(self) -> np.ndarray:
        """bool [n]: words and numbers, not punctuation."""
        return (self.kinds == LETTER) | (self.kinds == DIGIT) | (self.kinds == OTHER)

    def among(self, section: str) -> np.ndarray:
        """bool [n]: in this section of words.txt."""
        return KNOWN.sections[section][self.known]

    def plays(self, *roles: str) -> np.ndarray:
        """bool [n]: in one of these sections of lexicon.txt."""
        return np.logical_or.reduce([KNOWN.parts[role] for role in roles])[self.known]

    def characters(self, table: np.ndarray) -> np.ndarray:
        """int64 [texts]: how many of each text's bytes the table flags."""
        sums = np.cumsum(table[self.raw], dtype=np.int32)[np.cumsum(self.size + 1) - 1]
        return np.diff(sums, prepend=0)

    def count(self, flags: np.ndarray) -> np.ndarray:
        """int64 [texts]: how many words of each text are flagged."""
        return np.bincount(self.owners[flags], minlength=len(self.counts))

    def has(self, flags: np.ndarray) -> np.ndarray:
        """bool [texts]: is any word of the text flagged?"""
        flagged = np.zeros(len(self.counts), dtype=bool)
        flagged[self.owners[flags]] = True
        return flagged


def spell(texts: Sequence[str]) -> Words:
    """Split texts, which are already cut, into words."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    size = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    raw = np.frombuffer(b" ".join(encoded) + b" ", dtype=np.uint8)
    kind = _KIND[raw]
    inner = np.flatnonzero(raw[1:-1] == ord("'")) + 1
    kind[inner[(kind[inner - 1] == LETTER) & (kind[inner + 1] == LETTER)]] = LETTER
    runs = np.concatenate((np.zeros(1, dtype=np.int64), np.flatnonzero(kind[1:] != kind[:-1]) + 1))
    lengths = np.diff(runs, append=len(kind))
    place = np.arange(len(kind), dtype=np.int32) - np.repeat(runs.astype(np.int32), lengths)
    sums = np.zeros(len(kind) + 1, dtype=np.uint32)  # wraps around, and so do their differences
    np.cumsum(_LOWER[raw] * _POWERS[np.minimum(place, LONGEST)], out=sums[1:])
    words = np.flatnonzero(kind[runs])
    at, lengths = runs[words], lengths[words]
    kinds, before = kind[at], sums[at]
    hashes = _mix(sums[at + lengths] - before)
    stems = _mix(sums[at + np.minimum(lengths, STEM)] - before)
    shapes = np.where(kinds == DIGIT, _NUMBERS[np.minimum(lengths, 4)], hashes)
    counts = np.diff(np.searchsorted(at, np.cumsum(size + 1)), prepend=0)
    owners = np.repeat(np.arange(len(texts), dtype=np.int32), counts)
    return Words(hashes, shapes, stems, kinds, KNOWN.find(hashes), owners, counts, size, raw)


def _mix(hashes: np.ndarray) -> np.ndarray:
    hashes = (hashes ^ (hashes >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    return hashes ^ (hashes >> np.uint32(13))


class Known:
    """The words in the book's lists, by row. Row 0 stands for every other word.

    `sections`: bool [rows] for each section of words.txt, `parts` of lexicon.txt; `roles` uint32 [rows]: the hash of
    what a word does in a reaction (its section of lexicon.txt, of which a later one wins; itself, if it is a function
    word; else nothing).
    """

    def __init__(self) -> None:
        sections = {name: " ".join(lines).split() for name, lines in read_sections("words.txt").items()}
        lexicon = {
            word: role for role, lines in read_sections("lexicon.txt").items() for word in " ".join(lines).split()
        }
        self.words = sorted({*lexicon, *(word for words in sections.values() for word in words)})
        self._step, self._slots, self._hashes = self._hash_table()
        rows = {word: row for row, word in enumerate(self.words, 1)}
        self.sections = {name: np.zeros(len(rows) + 1, dtype=bool) for name in sections}
        for name, words in sections.items():
            self.sections[name][[rows[word] for word in words]] = True
        own = np.where(self.sections["function"], self._hashes, np.uint32(0))
        self.parts = {role: np.zeros(len(rows) + 1, dtype=bool) for role in lexicon.values()}
        for word, role in lexicon.items():
            own[rows[word]] = zlib.crc32(b"role " + role.encode())
            self.parts[role][rows[word]] = True
        self.roles = own

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """int32 [n]: the row of each word."""
        rows = self._slots[(hashes * self._step) >> np.uint32(32 - TABLE_BITS)]
        return np.where(self._hashes[rows] == hashes, rows, 0)

    def _hash_table(self) -> tuple[np.uint32, np.ndarray, np.ndarray]:
        """A multiplier under which no two words share a slot, the slots, and the words' hashes."""
        hashes = np.asarray([0, *(_hash(word) for word in self.words)], dtype=np.uint32)
        for step in range(0x9E3779B1, 0x9E3779B1 + 2000, 2):
            slots = (hashes[1:] * np.uint32(step)) >> np.uint32(32 - TABLE_BITS)
            if len(np.unique(slots)) == len(slots):
                table = np.zeros(1 << TABLE_BITS, dtype=np.int32)
                table[slots] = np.arange(1, len(hashes))
                return np.uint32(step), table, hashes
        raise AssertionError("two words of the book have the same hash")


def _hash(word: str) -> int:
    """The hash that `spell` gives a word of letters; 0, which no word has, if it is more than one word there."""
    if not re.fullmatch("[a-z]+('[a-z]+)*", word):
        return zlib.crc32(b"unspelt " + word.encode())
    letters = np.frombuffer(word.encode(), dtype=np.uint8)[:LONGEST].astype(np.uint32)
    return int(_mix(np.add.reduce(letters * _POWERS[: len(letters)], dtype=np.uint32, keepdims=True))[0])


KNOWN = Known()
