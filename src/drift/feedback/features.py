"""What the embedded labeller looks at: hashed words of a user turn, and how it relates to the request and the reply.

Everything here is paid once per user turn of every log, so the texts are cut, words are hashed once and remembered, and
n-grams are made for a whole batch at a time. `VERSION` names the code: weights fitted on other features are refused.
"""

import re
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from math import log1p

import numpy as np

VERSION = "1"
BUCKET_BITS = 16
BUCKETS = 1 << BUCKET_BITS
HEAD, TAIL, OPENING = 300, 100, 160
FIRST = 6
REMEMBERED = 100_000

TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|\d+|[.,:;]+|[?!]+|\n+|[^\x00-\x7f]")
FUNCTION_WORDS = frozenset(
    "the a an and or but of to in on at for with from by as is are was were be been it its this that these those i you he she we "
    "they me my your our their him her them do does did have has had not no can could will would should what which who how when "
    "where why if then so than there here please just also about into all any some more".split()
)
NO_CONTENT = FUNCTION_WORDS | frozenset([",", ".", "?", "!", ":", ";", "\n", "\n\n", "...", "??", "!!"])
ERROR_WORDS = frozenset(
    "traceback error exception syntaxerror typeerror nameerror valueerror keyerror indexerror attributeerror importerror "
    "runtimeerror modulenotfounderror nullpointerexception found fault err denied failed undefined exited code".split()
)
ERRORS = (
    "traceback (", "error:", "error (", "error at", "exception:", "exception in", "syntax error", "not found", "npm err!",
    "segmentation fault", "permission denied", "build failed", "undefined", "exited with", "exit code", "error ts",
)  # fmt: skip
APOLOGIES = frozenset("sorry apologize apologise apologies apologizes apology oops".split())
REFUSALS = ("as an ai", "language model", "i can't", "i cannot", "i can not", "unable to", "not able to", "can't help")
REFUSAL_WORDS = frozenset("ai model can't cannot not unable".split())
BLANKS = str.maketrans(dict.fromkeys(string.punctuation.replace("'", ""), " "))
THANKS = frozenset("thanks thank thankful thx ty tysm appreciate appreciated cheers".split())
BUT = frozenset("but however except although though".split())
NOT = frozenset(
    "no not never none nothing neither nor nope without cannot dont doesnt didnt isnt cant wont wasnt don't doesn't didn't isn't "
    "can't won't wasn't aren't weren't couldn't shouldn't hasn't haven't".split()
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a user wrote, the reply it reacts to, and the request that the reply answered ("" if there is none)."""

    text: str
    reply: str
    request: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Features of n turns. `buckets` int64 [m], 0..BUCKETS-1, in use by the turn `owners` int64 [m], 0..n-1;
    `relation` float32 [n, len(RELATION)]."""

    buckets: np.ndarray
    owners: np.ndarray
    relation: np.ndarray

    def only(self, rows: Sequence[int]) -> "Batch":
        """The batch of some of its turns, in this order."""
        place = np.full(len(self.relation), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = place[self.owners] >= 0
        return Batch(self.buckets[kept], place[self.owners[kept]], self.relation[rows])


def _read_lexicon() -> dict[str, str]:
    """Word -> what it does in a reaction ("bad", "miss", "asked" ...); a later section of the file wins."""
    role, roles = "", {}
    for line in files("drift.feedback.book").joinpath("lexicon.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            role = line.strip("[]")
        elif not line.startswith("#"):
            roles |= dict.fromkeys(line.split(), role)
    return roles


LEXICON = _read_lexicon()


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
    """Word -> its row in `hashes`, `roles` and `parts` (buckets of the word and its characters), made when first met."""

    def __init__(self) -> None:
        super().__init__()
        self.hashes: list[int] = []
        self.roles: list[int] = []
        self.parts: list[np.ndarray] = []

    def __missing__(self, word: str) -> int:
        shape = "0" * min(len(word), 4) if word.isdecimal() else word[:24]
        padded = f"<{shape}>"
        grams = {padded[i : i + n] for n in (3, 4, 5) for i in range(len(padded) - n + 1)} if len(shape) > 3 else set()
        self.hashes.append(zlib.crc32(shape.encode()))
        self.roles.append(zlib.crc32(b"role " + _role(word).encode()))
        hashes = [self.hashes[-1], *sorted(zlib.crc32(b"part " + gram.encode()) for gram in grams)]
        self.parts.append(_buckets(np.asarray(hashes, dtype=np.uint32)))
        self[word] = len(self.parts) - 1
        return self[word]


class Features:
    """Turns in, `Batch` out. It remembers the words it met, which changes speed and never results."""

    def __init__(self) -> None:
        self.words = Words()

    def batch(self, turns: Sequence[Turn]) -> Batch:
        spoken = [tokens(cut(turn.text)) for turn in turns]
        relation = [relate(turn, words) for turn, words in zip(turns, spoken, strict=True)]
        buckets, owners = self._hash(spoken)
        return Batch(buckets, owners, np.asarray(relation, dtype=np.float32).reshape(len(turns), len(RELATION)))

    def words_alone(self, texts: Sequence[str]) -> Batch:
        """Texts that stand in no relation to anything."""
        buckets, owners = self._hash([tokens(cut(text)) for text in texts])
        return Batch(buckets, owners, np.zeros((len(texts), len(RELATION)), dtype=np.float32))

    def _hash(self, spoken: Sequence[list[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Words, their characters, their roles, runs and pairs of both, and once more the words that open the turn."""
        if len(self.words) > REMEMBERED:
            self.words = Words()
        table, lengths = self.words, np.asarray([len(words) + 1 for words in spoken])
        rows = [table[word] for words in spoken for word in chain(("^",), words)]
        owner = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        hashes = np.asarray(table.hashes, dtype=np.uint32)[rows]
        roles = np.asarray(table.roles, dtype=np.uint32)[rows]
        opens = (place > 0) & (place <= FIRST)
        parts = [table.parts[row] for row in rows]
        families = [
            (np.concatenate(parts), np.repeat(owner, list(map(len, parts)))),
            (_buckets(hashes[opens] + np.uint32(1)), owner[opens]),
            (_buckets(roles), owner),
            *(_runs(hashes, owner, n) for n in (2, 3)),
            *(_runs(roles, owner, n) for n in (2, 3, 4)),
            _pairs(hashes, hashes, owner, 2),
            _pairs(hashes, roles, owner, 1),
            _pairs(roles, hashes, owner, 1),
        ]
        return np.concatenate([family[0] for family in families]), np.concatenate([family[1] for family in families])


def _runs(hashes: np.ndarray, owner: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Buckets of all runs of n words that lie inside one turn, and the turns they belong to."""
    count = max(len(hashes) - n + 1, 0)
    inside = owner[:count] == owner[n - 1 :]
    combined = np.full(count, n, dtype=np.uint32)
    for i in range(n):
        combined = combined * np.uint32(0x01000193) + hashes[i : i + count]
    return _buckets(combined[inside]), owner[:count][inside]


def _pairs(left: np.ndarray, right: np.ndarray, owner: np.ndarray, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """As `_runs`, of a word (or role) and the word (or role) `gap` places later."""
    count = max(len(left) - gap, 0)
    inside = owner[:count] == owner[gap:]
    combined = left[:count] * np.uint32(77) + right[gap:] + np.uint32(gap + 4)
    return _buckets(combined[inside]), owner[:count][inside]


def _buckets(hashes: np.ndarray) -> np.ndarray:
    """uint32 hashes spread over the buckets (Fibonacci hashing: the product's high bits are the well mixed ones)."""
    return ((hashes * np.uint32(0x9E3779B1)) >> np.uint32(32 - BUCKET_BITS)).astype(np.int64)


RELATION = (
    "same_as_request",
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
    text, reply, opening = cut(turn.text).lower(), turn.reply, turn.reply[:OPENING].lower().replace("’", "'")
    said, asked, replied = set(words), _words(turn.request[:HEAD].lower()), _words(opening)
    content, wanted = said - NO_CONTENT, asked - NO_CONTENT
    numbers = {word for word in content if word.isdecimal()}
    repeated = _share(content & wanted, wanted)
    error = not ERROR_WORDS.isdisjoint(said) and _has(text, ERRORS)
    code = "```" in reply or _looks_like_code(opening)
    refused = not REFUSAL_WORDS.isdisjoint(replied) and _has(opening, REFUSALS)
    new, lost = len(content - wanted), len(wanted - content)
    opens_alike = not _words(turn.request[:OPENING].lstrip().lower().partition(" ")[0]).isdisjoint(words[:4])
    negations = min(len(NOT & said), 3) / 3
    starts_no, ending = words[:1] in (["no"], ["nope"], ["not"]), reply[-40:].rstrip()
    thanks = not THANKS.isdisjoint(said)
    return (
        float(_bare(turn.text) == _bare(turn.request) != ""),
        _share(content & wanted, content),
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
        float(not APOLOGIES.isdisjoint(replied)),
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


def _words(text: str) -> set[str]:
    """Words only: enough to compare with, at a fifth of the price of `tokens`."""
    return set(text.translate(BLANKS).split())


def _bare(text: str) -> str:
    return text[:HEAD].lower().strip(" \n?.!")


def _looks_like_code(text: str) -> bool:
    return "{" in text or "();" in text or "</" in text or "```" in text or ("import " in text and "\n" in text)


def _share(part: set[str], whole: set[str]) -> float:
    return len(part) / len(whole) if whole else 0.0


def _has(text: str, signs: tuple[str, ...]) -> bool:
    return any(sign in text for sign in signs)
