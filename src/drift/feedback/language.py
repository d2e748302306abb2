"""Is this turn in a language that the embedded labeller was taught (English)? Cheap signs first, a model where they fail."""

import re
from functools import lru_cache

from drift.feedback.features import HEAD

# Common English words that are no common words of the other languages written in Latin letters.
ENGLISH = frozenset(
    "the and of to is are was were you your i'm i've it's that's don't doesn't didn't isn't can't it this that these those with "
    "for from have has had not be been what which who how when where why would should could can will they their we our about "
    "please make write give use need want wrong right good great thanks thank ok okay yes again still asked said correct answer "
    "more another but my no just only too very there here then all some any if or by sorry error list word words".split()
)
LETTERS = re.compile(r"[^\W\d_]+")
CODE_MARKS = frozenset("{}[]()<>=;_/\\`|$#@*+")
SURE, FOREIGN_LETTERS, SHORT = 0.25, 0.3, 20


def is_english(text: str, words: list[str], request: str) -> bool:
    """`words` are the turn's tokens; a turn too short to tell is read together with the request it follows.

    Turns without letters (numbers, emoji) and code belong to no language and count as understood.
    """
    spoken = [word for word in words if word[0] >= "a" and word[0] <= "z"]
    if text.isascii():
        if not spoken:
            return True
    elif _foreign_letters(text[:HEAD]) > FOREIGN_LETTERS:
        return False
    hits = sum(map(ENGLISH.__contains__, spoken))
    if hits >= SURE * len(spoken) and (text.isascii() or hits):
        return True
    return not spoken or _ask_model(_sample(text, request))


def _foreign_letters(text: str) -> float:
    """Share of letters outside a-z; a text of few letters and much accent is foreign too, emoji are no letters."""
    letters = "".join(LETTERS.findall(text))
    return sum(letter > "\x7f" for letter in letters) / len(letters) if letters else 0.0


def _sample(text: str, request: str) -> str:
    start = text[:HEAD]
    return start if len(start) >= SHORT else f"{start} {request[:HEAD]}".strip()


@lru_cache(maxsize=4096)
def _ask_model(text: str) -> bool:
    import py3langid  # half a second to load: only where the cheap signs fail

    if len(text) < SHORT and text.isascii():
        return True
    if sum(map(CODE_MARKS.__contains__, text)) > 0.06 * len(text):
        return True
    return py3langid.classify(text)[0] == "en"
