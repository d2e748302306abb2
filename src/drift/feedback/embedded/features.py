"""What the embedded labeller looks at: hashed words of a user turn, and how it relates to the request and the reply.

Everything here is paid once per user turn of every log, so the texts are cut, words are hashed once and remembered, and
n-grams are made for a whole batch at a time. `VERSION` names the code: weights fitted on other features are refused.
"""

import re
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import log1p
from typing import NamedTuple

import numpy as np

from drift.feedback.embedded.book import read_sections

VERSION = "2"
BUCKET_BITS = 16
BUCKETS = 1 << BUCKET_BITS
HEAD, TAIL, OPENING = 160, 80, 120
FIRST = 6
REMEMBERED = 100_000

TOKEN = re.compile(r"[a-z][a-z']*|\d+|[.,:;]+|[?!]+|\n+|[^\x00-\x7f]")
WORDS = {name: frozenset(" ".join(lines).split()) for name, lines in read_sections("words.txt").items()}
FUNCTION_WORDS, NOT, THANKS, BUT = (WORDS[name] for name in ("function", "not", "thanks", "but"))
NO_CONTENT = FUNCTION_WORDS | frozenset([",", ".", "?", "!", ":", ";", "\n", "\n\n", "...", "??", "!!"])
ERRORS = (
    *(
        "traceback (",
        "error:",
        "error (",
        "error at",
        "error ts",
        "exception:",
        "exception in",
        "syntax error",
        "not found",
    ),
    *("npm err!", "segmentation fault", "permission denied", "build failed", "undefined", "exited with", "exit code"),
)
REFUSALS = ("as an ai", "language model", "i can't", "i cannot", "i can not", "unable to", "not able to", "can't help")
AROUND = " \n?.!"
BLANKS = str.maketrans(dict.fromkeys(string.punctuation.replace("'", ""), " "))


class Turn(NamedTuple):
    """What a user wrote, the reply it reacts to, and the request that the reply answered ("" if there is none)."""

    text: str
    reply: str
    request: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Features of n turns. `words`: the tokens of each turn.

    `buckets` int64 [m], 0..BUCKETS-1, in use by the turn `owners` int64 [m], 0..n-1; `relation` float32
    [n, len(RELATION)].
    """

    words: list[list[str]]
    buckets: np.ndarray
    owners: np.ndarray
    relation: np.ndarray

    def only(self, rows: Sequence[int]) -> "Batch":
        """The batch of some of its turns, in this order."""
        place = np.full(len(self.words), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        owners = place[self.owners]
        kept = owners >= 0
        return Batch([self.words[row] for row in rows], self.buckets[kept], owners[kept], self.relation[rows])


# What each word does in a reaction ("bad", "miss", "asked" ...); a later section of the file wins.
LEXICON = {word: role for role, lines in read_sections("lexicon.txt").items() for word in " ".join(lines).split()}


def _role(word: str) -> str:
    """The word's section in the lexicon, itself if it is a function word or punctuation, else a blank."""
    if word.isdecimal():
        return "0"
    return LEXICON.get(word) or (word if word in FUNCTION_WORDS or not word[0].isalpha() or word == "^" else "*")


def cut(text: str) -> str:
    """Where people speak their mind: the beginning and the end of a long message."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def tokens(text: str) -> list[str]:
    """Lower-case words, numbers and punctuation of a text that is already cut."""
    return TOKEN.findall(text.lower().replace("’", "'"))


class Words(dict[str, int]):
    """Word -> its row in `hashes` and `roles` (uint32) and `parts` (buckets of the word and its characters)."""

    def __init__(self) -> None:
        super().__init__()
        self.hashes = np.zeros(1 << 14, dtype=np.uint32)
        self.roles = np.zeros(1 << 14, dtype=np.uint32)
        self.parts: list[np.ndarray] = []

    def __missing__(self, word: str) -> int:
        row = len(self.parts)
        if row == len(self.hashes):
            self.hashes, self.roles = (np.concatenate((old, np.zeros_like(old))) for old in (self.hashes, self.roles))
        shape = "0" * min(len(word), 4) if word.isdecimal() else word[:24]
        padded = f"<{shape}>"
        grams = {padded[i : i + n] for n in (3, 5) for i in range(len(padded) - n + 1)} if len(shape) > 3 else set()
        hashes = [zlib.crc32(shape.encode()), *sorted(zlib.crc32(b"part " + gram.encode()) for gram in grams)]
        self.hashes[row] = hashes[0]
        self.roles[row] = zlib.crc32(b"role " + _role(word).encode())
        self.parts.append(_buckets(np.asarray(hashes, dtype=np.uint32)))
        self[word] = row
        return row


class Features:
    """Turns in, `Batch` out. It remembers the words it met, which changes speed and never results."""

    def __init__(self) -> None:
        self._words = Words()

    def batch(self, turns: Sequence[Turn]) -> Batch:
        spoken = [tokens(cut(turn.text)) for turn in turns]
        relation = [relate(turn, words) for turn, words in zip(turns, spoken, strict=True)]
        return self._hash(spoken, np.asarray(relation, dtype=np.float32).reshape(len(turns), len(RELATION)))

    def texts(self, texts: Sequence[str]) -> Batch:
        """Texts that stand in no relation to anything."""
        return self._hash([tokens(text) for text in texts], np.zeros((len(texts), len(RELATION)), dtype=np.float32))

    def _hash(self, spoken: list[list[str]], relation: np.ndarray) -> Batch:
        """Words, their characters, their roles, runs and pairs of both, and once more the words that open the turn."""
        if len(self._words) > REMEMBERED:
            self._words = Words()
        table, lengths = self._words, np.asarray([len(words) + 1 for words in spoken])
        rows = [table[word] for words in spoken for word in chain(("^",), words)]
        turn = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        hashes, roles, opens = table.hashes[rows], table.roles[rows], (place > 0) & (place <= FIRST)
        parts = [table.parts[row] for row in rows]
        families = [
            (np.concatenate(parts), np.repeat(turn, list(map(len, parts)))),
            (_buckets(hashes[opens] + np.uint32(1)), turn[opens]),
            (_buckets(roles), turn),
            *(_runs(hashes, turn, n) for n in (2, 3)),
            *(_runs(roles, turn, n) for n in (2, 3, 4)),
            _pairs(hashes, hashes, turn, 2),
            _pairs(hashes, roles, turn, 1),
            _pairs(roles, hashes, turn, 1),
        ]
        buckets, owners = (np.concatenate([family[i] for family in families]) for i in (0, 1))
        return Batch(spoken, buckets, owners, relation)


def _runs(hashes: np.ndarray, turn: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Buckets of all runs of n words that lie inside one turn, and the turns they belong to."""
    count = max(len(hashes) - n + 1, 0)
    inside = turn[:count] == turn[n - 1 :]
    combined = np.full(count, n, dtype=np.uint32)
    for i in range(n):
        combined = combined * np.uint32(0x01000193) + hashes[i : i + count]
    return _buckets(combined[inside]), turn[:count][inside]


def _pairs(left: np.ndarray, right: np.ndarray, turn: np.ndarray, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """As `_runs`, of a word (or role) and the word (or role) `gap` places later."""
    count = max(len(left) - gap, 0)
    inside = turn[:count] == turn[gap:]
    combined = left[:count] * np.uint32(77) + right[gap:] + np.uint32(gap + 4)
    return _buckets(combined[inside]), turn[:count][inside]


def _buckets(hashes: np.ndarray) -> np.ndarray:
    """uint32 hashes spread over the buckets (Fibonacci hashing: the product's high bits are the well mixed ones)."""
    return ((hashes * np.uint32(0x9E3779B1)) >> np.uint32(32 - BUCKET_BITS)).astype(np.int64)


RELATION = (
    "same_as_request",
    "same_few_words",
    "words_from_request",
    "request_repeated",
    "nothing_new",
    "new_words",
    "lost_words",
    "swaps_words",
    "opens_alike",
    "other_arguments",
    "numbers_from_request",
    "new_numbers",
    "words_from_reply",
    "reply_apologises",
    "reply_refuses",
    "reply_has_code",
    "reply_asks",
    "reply_is_cut",
    "reply_length",
    "turn_is_error",
    "error_after_code",
    "turn_has_code",
    "asks",
    "exclaims",
    "shouts",
    "negates",
    "negates_and_repeats",
    "no_to_a_question",
    "no_to_a_statement",
    "thanks",
    "thanks_but",
    "very_short",
    "no_request",
)


def relate(turn: Turn, words: list[str]) -> tuple[float, ...]:
    """One number, mostly 0..1, per name in RELATION."""
    text, reply, request = cut(turn.text).lower(), turn.reply, turn.request[:HEAD].lower()
    opening = reply[:OPENING].lower().replace("’", "'")
    said, before, replied = set(words), request.translate(BLANKS).split(), set(opening.translate(BLANKS).split())
    asked = set(before)
    content, wanted = said - NO_CONTENT, asked - NO_CONTENT
    numbers = {word for word in content if word.isdecimal()}
    kept = content & wanted
    new, lost, repeated = len(content) - len(kept), len(wanted) - len(kept), _share(kept, wanted)
    error = not WORDS["error"].isdisjoint(said) and _has(text, ERRORS)
    code = "```" in reply or _looks_like_code(opening)
    refused = not WORDS["refusal"].isdisjoint(replied) and _has(opening, REFUSALS)
    same = not new and text[:HEAD].strip(AROUND) == request.strip(AROUND) != ""
    opens_alike = bool(before) and before[0] in words[:4]
    negations = min(len(NOT & said), 3) / 3
    starts_no, ending = words[:1] in (["no"], ["nope"], ["not"]), reply[-40:].rstrip()
    thanks = not THANKS.isdisjoint(said)
    return (
        float(same and len(content) > 2),
        float(same and len(content) <= 2),
        _share(kept, content),
        repeated,
        float(bool(content) and content <= wanted),
        min(new, 6) / 6,
        min(lost, 6) / 6,
        float(bool(new and lost and repeated)),
        float(opens_alike),
        float(opens_alike and new == lost > 0),
        _share(numbers & asked, numbers),
        _share(numbers - asked, numbers),
        _share(content & replied, content),
        float(not WORDS["apologies"].isdisjoint(replied)),
        float(refused),
        float(code),
        float(ending.endswith("?")),
        float(ending[-1:].isalnum() and len(reply) > 400),
        log1p(len(reply)) / 8,
        float(error),
        float(error and code),
        float(_looks_like_code(text)),
        float("?" in text),
        float("!" in text),
        float(len(text) > 3 and turn.text[:HEAD].isupper()),
        negations,
        negations * repeated,
        float(starts_no and ending.endswith("?")),
        float(starts_no and not ending.endswith("?")),
        float(thanks),
        float(thanks and not BUT.isdisjoint(said)),
        float(len(words) < 4),
        float(not asked),
    )


def _looks_like_code(text: str) -> bool:
    return "{" in text or "();" in text or "</" in text or "```" in text or ("import " in text and "\n" in text)


def _share(part: set[str], whole: set[str]) -> float:
    return len(part) / len(whole) if whole else 0.0


def _has(text: str, signs: tuple[str, ...]) -> bool:
    return any(sign in text for sign in signs)
