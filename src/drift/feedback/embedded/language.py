"""Is a turn English, the language that the embedded labeller was trained on? Cheap signs first, then a model."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from drift.feedback.embedded.features import Batch, Turn
from drift.feedback.embedded.spell import HEAD, KNOWN, LETTER, OTHER, cut

LETTERS = re.compile(r"[^\W\d_]+")
CODE_MARKS = frozenset("{}[]()<>=;_/\\`|$#@*+")
SURE_COMMON_SHARE = 0.25  # share of common English words that is enough, if foreign ones are fewer
FAIR_COMMON_SHARE, FAIR_COMMON_WORDS = 0.12, 3  # enough, if there are no foreign words
FOREIGN_LETTER_SHARE, SHORT_CHARACTERS, CODE_SHARE = 0.3, 60, 0.06
_NAMED = dict(zip(KNOWN.words, range(1, len(KNOWN.words) + 1), strict=True))
_HIGH = (np.arange(256) > 127).astype(np.uint8)


class WordCounts(NamedTuple):
    """Words of a text, and how many of them are common in English and in other languages."""

    spoken: int
    hits: int
    foreign: int


def english(turns: Sequence[Turn], batch: Batch) -> list[bool]:
    """Turns without letters (numbers, emoji) and code belong to no language and pass.

    A few words after an English request pass if no word is foreign: they are too short to tell.
    """
    words, sure = batch.spoken, sure_english(batch)
    spoken = words.count((words.kinds == LETTER) | (words.kinds == OTHER))
    hits, foreign = words.count(words.among("english")), words.count(words.among("foreign"))
    passed = sure[: len(turns)].tolist()
    for i in np.flatnonzero(~sure[: len(turns)]).tolist():
        counts = WordCounts(int(spoken[i]), int(hits[i]), int(foreign[i]))
        passed[i] = _is_english(cut(turns[i].text), counts, "" if sure[batch.asked[i]] else turns[i].request)
    return passed


def sure_english(batch: Batch) -> np.ndarray:
    """bool [texts]: has the text enough common English words, or no words at all?"""
    words = batch.spoken
    spoken = words.count((words.kinds == LETTER) | (words.kinds == OTHER))
    hits, foreign = words.count(words.among("english")), words.count(words.among("foreign"))
    few_high = words.characters(_HIGH) <= FOREIGN_LETTER_SHARE / 2 * words.size
    sure = ((hits > foreign) & (hits >= SURE_COMMON_SHARE * spoken) & few_high) | (spoken == 0)
    sure |= (foreign == 0) & (hits >= FAIR_COMMON_WORDS) & (hits >= FAIR_COMMON_SHARE * spoken) & few_high
    return sure


def _is_english(text: str, counts: WordCounts, request: str) -> bool:
    """`request`: "" if it is known to be English."""
    plain = text.isascii()
    if not plain and not LETTERS.search(text):
        return True
    if not plain and _foreign_letters(text[:HEAD]) > FOREIGN_LETTER_SHARE:
        return False
    if counts.hits > counts.foreign and counts.hits >= SURE_COMMON_SHARE * counts.spoken:
        return True
    if plain and not counts.foreign and counts.hits > 1:
        return True
    if plain and not counts.foreign and len(text) < SHORT_CHARACTERS:
        return not _reads_foreign(request[:HEAD])
    return not _reads_foreign(text[:HEAD])


def _foreign_letters(text: str) -> float:
    """Share of letters outside a-z; emoji and symbols are not letters."""
    letters = "".join(LETTERS.findall(text))
    return sum(letter > "\x7f" for letter in letters) / len(letters) if letters else 0.0


def _reads_foreign(text: str) -> bool:
    words = text.lower().split()
    rows = [_NAMED.get(word, 0) for word in words]
    hits, foreign = (int(KNOWN.sections[name][rows].sum()) for name in ("english", "foreign"))
    if not words or (hits > foreign and hits >= SURE_COMMON_SHARE * len(words)):
        return False
    if text.isascii() and not foreign and (len(text) < SHORT_CHARACTERS or _is_code(text)):
        return False
    import py3langid  # half a second to load: only where the cheap signs fail

    return py3langid.classify(text)[0] != "en"


def _is_code(text: str) -> bool:
    return sum(map(CODE_MARKS.__contains__, text)) > CODE_SHARE * len(text)
