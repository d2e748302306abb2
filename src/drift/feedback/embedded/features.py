"""Features of the embedded labeller: hashed words of a user turn, and its relations to the request and the reply.

This code runs for every user turn of every log, so all of it is arithmetic on arrays of a whole batch. `VERSION` names
the code: weights that were fitted on other features are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from drift.feedback.embedded.spell import BREAK, CAPITAL, CODE, DIGIT, KNOWN, LETTER, Words, cut, spell

VERSION = "3"
BUCKET_BITS = 16
BUCKETS = 1 << BUCKET_BITS
OPENING, ENDING = 120, 40  # characters of a reply
FIRST, FRONT = 6, 4  # words that open a turn
CELLS = 2048  # words of two texts are compared by 11 bits of their hashes

ERRORS = (
    *("traceback (", "error:", "error (", "error at", "error ts", "exception:", "exception in", "syntax error"),
    *("not found", "npm err!", "segmentation fault", "permission denied", "build failed", "undefined", "exited with"),
    "exit code",
)
REFUSALS = ("as an ai", "language model", "i can't", "i cannot", "i can not", "unable to", "not able to", "can't help")


class Turn(NamedTuple):
    """What a user wrote, the reply it reacts to, and the request that the reply answered ("" if there is none)."""

    text: str
    reply: str
    request: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Features of n turns, and of those of their requests that are not turns of the batch.

    `spoken`: the words of all texts, those of the turns first; `buckets` int32 [FAMILIES, words]: those that each word
    stands in, 0 for none; `relation` float32 [n, len(RELATION)]; `asked` int64 [n]: which text is the turn's request.
    """

    spoken: Words
    buckets: np.ndarray
    relation: np.ndarray
    asked: np.ndarray

    @property
    def words(self) -> Words:
        """The words of the turns."""
        return self.spoken.first(len(self.relation))

    def only(self, rows: Sequence[int]) -> "Batch":
        """The same batch with only these turns, without their requests."""
        words, chosen = self.spoken.pick(np.asarray(rows, dtype=np.int64))
        return Batch(words, self.buckets[:, chosen], self.relation[rows], np.zeros(0, dtype=np.int64))


def features(turns: Sequence[Turn]) -> Batch:
    texts = [cut(turn.text) for turn in turns]
    asked, further = _requests(turns)
    spoken = spell(texts + [cut(text) for text in further])
    words, (requests, _) = spoken.first(len(turns)), spoken.pick(asked)
    return Batch(spoken, _buckets(spoken), relate(turns, texts, words, requests), asked)


def _requests(turns: Sequence[Turn]) -> tuple[np.ndarray, list[str]]:
    """For each turn the index of its request's text, and the texts to add: a request that is the turn before in the
    batch needs no text of its own."""
    asked, further, before = np.zeros(len(turns), dtype=np.int64), [], None
    for i, turn in enumerate(turns):
        if before is not None and turn.request is before:
            asked[i] = i - 1
        else:
            asked[i] = len(turns) + len(further)
            further.append(turn.request)
        before = turn.text
    return asked, further


def features_of_texts(texts: Sequence[str]) -> Batch:
    """Features of texts that have no request and no reply; all relations are 0."""
    words = spell([cut(text) for text in texts])
    relation = np.zeros((len(texts), len(RELATION)), dtype=np.float32)
    return Batch(words, _buckets(words), relation, np.zeros(0, dtype=np.int64))


def _roles(words: Words) -> np.ndarray:
    """uint32 [n]: what each word does in a reaction; numbers, punctuation and all other words have a role as well."""
    named = np.where(words.known > 0, KNOWN.roles[words.known], np.uint32(0))
    return np.where(words.kinds == LETTER, named, np.where(words.kinds == DIGIT, np.uint32(0x0D161D), words.hashes))


FAMILIES = 12


def _buckets(words: Words) -> np.ndarray:
    """A word, its stem, its role, runs and pairs of both, and once more if it is among the words that open the turn."""
    own, roles, turn, place = words.shapes, _roles(words), words.owners, words.places()
    buckets = np.zeros((FAMILIES, len(own)), dtype=np.int32)
    buckets[0] = _bucket(own, 1)
    buckets[1] = np.where(words.kinds == LETTER, _bucket(words.stems, 2), 0)
    buckets[2] = np.where(place < FIRST, _bucket(own, 3), 0)
    buckets[3] = _bucket(roles, 4)
    inside = [turn[: max(len(turn) - reach, 0)] == turn[reach:] for reach in range(4)]
    chains = ((own, own), (own, own, own), (roles, roles), (roles,) * 3, (roles,) * 4, (own, None, own))
    for row, chain in enumerate((*chains, (own, roles), (roles, own)), 4):
        fits = inside[len(chain) - 1]
        buckets[row, : len(fits)] = np.where(fits, _bucket(_run(chain, len(fits)), row + 1), 0)
    return buckets


def _run(chain: Sequence[np.ndarray | None], count: int) -> np.ndarray:
    """uint32 [count]: a hash of what begins at each word, one column of hashes for each place."""
    combined = np.zeros(count, dtype=np.uint32)
    for i, hashes in enumerate(chain):
        if hashes is not None:
            combined = combined * np.uint32(0x01000193) + hashes[i : i + count]
    return combined


def _bucket(hashes: np.ndarray, salt: int) -> np.ndarray:
    """int32 1..BUCKETS-1 (Fibonacci hashing: the product's high bits are the well mixed ones)."""
    mixed = ((hashes + np.uint32(salt * 0x3C6EF35F & 0xFFFFFFFF)) * np.uint32(0x9E3779B1)) >> np.uint32(
        32 - BUCKET_BITS
    )
    return np.maximum(mixed, np.uint32(1)).astype(np.int32)


REPETITION = (
    *("same_as_request", "same_few_words", "words_from_request", "request_repeated", "nothing_new", "new_words"),
    *(
        "lost_words",
        "swaps_words",
        "opens_alike",
        "other_arguments",
        "numbers_from_request",
        "new_numbers",
        "no_request",
    ),
)
REPLY = (
    *("reply_apologises", "reply_agrees", "reply_refuses", "reply_has_code", "reply_asks", "reply_is_cut"),
    *("reply_length", "words_from_reply", "turn_is_error", "error_after_code", "no_to_a_question", "no_to_a_statement"),
)
MANNER = (
    *("code_share", "asks", "exclaims", "shouts", "very_short", "length", "lines", "negates", "thanks", "thanks_but"),
    *("but_first", "faults", "misses", "asked", "again", "addresses", "addresses_a_fault"),
)
RELATION = (*REPETITION, *REPLY, *MANNER)


class TurnFeatures(NamedTuple):
    """Turns, what is read of them (`texts`), and the words of that, of the requests, and of how the replies begin."""

    turns: Sequence[Turn]
    texts: Sequence[str]
    words: Words
    request: Words
    opening: Words


def relate(turns: Sequence[Turn], texts: Sequence[str], words: Words, requests: Words) -> np.ndarray:
    """float32 [n, len(RELATION)]: one number, mostly 0..1, per name in RELATION."""
    if not turns:
        return np.zeros((0, len(RELATION)), dtype=np.float32)
    scene = TurnFeatures(turns, texts, words, requests, spell([cut(turn.reply[:OPENING]) for turn in turns]))
    columns = (*_repetition(scene), *_reply(scene), *_manner(scene))
    return np.stack(columns, axis=1, dtype=np.float32, casting="unsafe")


def _repetition(scene: TurnFeatures) -> tuple[np.ndarray, ...]:
    """REPETITION: which words of the request the turn repeats, drops or adds."""
    words, request = scene.words, scene.request
    content, request_content = _content(words), _content(request)
    shared = content & _occurs(words, request, request_content)
    total, requested, both = words.count(content), request.count(request_content), words.count(shared)
    new, lost = total - both, request.count(request_content & ~_occurs(request, words, content))
    repeated = _share(requested - lost, requested)
    has_request = request.counts > 0
    first = np.zeros(len(has_request), dtype=np.uint32)
    first[has_request] = request.hashes[request.starts()[has_request]]
    alike = has_request & words.has((words.hashes == first[words.owners]) & (words.places() < FRONT))
    same = (total + new + lost > 0) & (_sequence(words) == _sequence(request))
    numbers = words.kinds == DIGIT
    count = words.count(numbers)
    return (
        same & (total > 2),
        same & (total <= 2),
        _share(both, total),
        repeated,
        (total > 0) & (new == 0),
        np.minimum(new, 6) / 6,
        np.minimum(lost, 6) / 6,
        (new > 0) & (lost > 0) & (repeated > 0),
        alike,
        alike & (new == lost) & (lost > 0),
        _share(words.count(numbers & shared), count),
        _share(words.count(numbers & ~shared), count),
        ~has_request,
    )


def _reply(scene: TurnFeatures) -> tuple[np.ndarray, ...]:
    """REPLY: what the reply did, and what the turn makes of that."""
    words, opening, replies = scene.words, scene.opening, [turn.reply for turn in scene.turns]
    endings = [reply[-ENDING:].rstrip()[-1:] for reply in replies]
    length = np.asarray([len(reply) for reply in replies])
    code = np.asarray(["```" in reply for reply in replies])
    asks = np.asarray([ending == "?" for ending in endings])
    broken_off = np.asarray([ending.isalnum() or ending == "`" for ending in endings])
    refusal, error = opening.has(opening.among("refusal")), words.has(words.among("error"))
    refuses, is_error = np.zeros_like(refusal), np.zeros_like(error)
    for i in np.flatnonzero(refusal).tolist():
        refuses[i] = _has(replies[i][:OPENING], REFUSALS)
    for i in np.flatnonzero(error).tolist():
        is_error[i] = _has(scene.texts[i], ERRORS)
    content = _content(words)
    no = words.has(words.among("no") & (words.places() == 0))
    return (
        opening.has(opening.among("apologies")),
        opening.has(opening.among("agrees") & (opening.places() < FRONT)),
        refuses,
        code,
        asks,
        broken_off & (length > 400),
        np.log1p(length) / 8,
        _share(words.count(content & _occurs(words, opening, _content(opening))), words.count(content)),
        is_error,
        is_error & code,
        no & asks,
        no & ~asks,
    )


def _manner(scene: TurnFeatures) -> tuple[np.ndarray, ...]:
    """MANNER: how the turn is written, and which kinds of words it contains."""
    words, size = scene.words, np.maximum(scene.words.size, 1)
    thanks, length = words.has(words.among("thanks")), np.asarray([len(turn.text) for turn in scene.turns])
    faults = words.count(words.plays("bad", "fault", "broken"))
    missed, you = words.count(words.plays("miss")), words.count(words.plays("you"))
    return (
        np.minimum(words.characters(CODE) / size * 8, 1),
        np.asarray(["?" in text for text in scene.texts]),
        np.asarray(["!" in text for text in scene.texts]),
        (words.characters(CAPITAL) > 0.6 * size) & (size > 3),
        words.counts < FRONT,
        np.log1p(length) / 8,
        np.minimum(words.count(words.kinds == BREAK), 6) / 6,
        np.minimum(words.count(words.among("not")), 3) / 3,
        thanks,
        thanks & words.has(words.among("but")),
        words.has(words.among("but") & (words.places() < 2)),
        np.minimum(faults, 3) / 3,
        np.minimum(missed, 3) / 3,
        np.minimum(words.count(words.plays("asked")), 2) / 2,
        np.minimum(words.count(words.plays("again")), 3) / 3,
        np.minimum(you, 3) / 3,
        (you > 0) & (faults + missed > 0),
    )


def _content(words: Words) -> np.ndarray:
    """bool [n]: words that carry meaning: neither function words nor punctuation."""
    return words.speaks() & ~words.among("function")


def _occurs(words: Words, other: Words, which: np.ndarray) -> np.ndarray:
    """bool [n]: does the word occur among the words `which` of the other text with the same number?"""
    cells = np.zeros(len(other.counts) * CELLS, dtype=bool)
    cells[_cells(other)[which]] = True
    return cells[_cells(words)]


def _cells(words: Words) -> np.ndarray:
    return words.owners * np.int32(CELLS) + (words.hashes % np.uint32(CELLS)).astype(np.int32)


def _sequence(words: Words) -> np.ndarray:
    """uint32 [texts]: a hash of the words in order, punctuation aside."""
    spoken = np.where(words.speaks(), words.hashes, np.uint32(0)).astype(np.float64)
    return np.bincount(words.owners, spoken * (1 + words.places() % 61), minlength=len(words.counts))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)


def _has(text: str, signs: tuple[str, ...]) -> bool:
    text = text.lower()
    return any(sign in text for sign in signs)
