"""Is this turn in the language that the embedded labeller was taught, English? Cheap signs first, then a model."""

import re
from functools import lru_cache

from drift.feedback.embedded.features import HEAD, WORDS

ENGLISH, FOREIGN = WORDS["english"], WORDS["foreign"]
LETTERS = re.compile(r"[^\W\d_]+")
CODE_MARKS = frozenset("{}[]()<>=;_/\\`|$#@*+")
SURE, FOREIGN_LETTERS, SHORT, CODE_SHARE = 0.25, 0.3, 60, 0.06


def is_english(text: str, words: list[str], request: str) -> bool:
    """`words` are the turn's tokens. Turns without letters (numbers, emoji) and code belong to no language and pass.

    A few words after an English request, none of them another language's, are taken for English: too short to tell.
    """
    spoken = [word for word in words if word[0].isalpha()]
    plain = text.isascii()
    if not spoken:
        return True
    if not plain and _foreign_letters(text[:HEAD]) > FOREIGN_LETTERS:
        return False
    hits = sum(map(ENGLISH.__contains__, spoken))
    foreign = sum(map(FOREIGN.__contains__, spoken))
    if hits > foreign and hits >= SURE * len(spoken):
        return True
    if plain and not foreign and (len(text) < SHORT or hits > 1):
        return not _reads_foreign(request[:HEAD])
    return not _reads_foreign(text[:HEAD])


def _foreign_letters(text: str) -> float:
    """Share of letters outside a-z; emoji and symbols are no letters."""
    letters = "".join(LETTERS.findall(text))
    return sum(letter > "\x7f" for letter in letters) / len(letters) if letters else 0.0


@lru_cache(maxsize=4096)
def _reads_foreign(text: str) -> bool:
    words = text.lower().split()
    hits, foreign = sum(map(ENGLISH.__contains__, words)), sum(map(FOREIGN.__contains__, words))
    if not words or (hits > foreign and hits >= SURE * len(words)):
        return False
    if text.isascii() and not foreign and (len(text) < SHORT or _is_code(text)):
        return False
    import py3langid  # half a second to load: only where the cheap signs fail

    return py3langid.classify(text)[0] != "en"


def _is_code(text: str) -> bool:
    return sum(map(CODE_MARKS.__contains__, text)) > CODE_SHARE * len(text)
