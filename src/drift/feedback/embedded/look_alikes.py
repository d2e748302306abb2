"""What only looks like a complaint: praise by a negation, a user's own mistake, and words that a new task quotes.

The classifier weighs words, so "not bad at all" and "I was wrong" are complaints for it, and so is a complaint that is
to be translated. A turn that it calls DSAT is read again without such words: English with what is left of it, any other
language only if nothing is left but words that agree (book/look_alikes.txt).
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from drift.feedback.embedded import book
from drift.feedback.embedded.book import read_sections
from drift.feedback.embedded.spell import HEAD
from drift.records import stable_hash

VERSION = "1"
"""Names the code of this file in a label's version."""
ACCEPTED = "ok"
"""Stands where praise or a concession stood."""
_PAGE = "look_alikes.txt"
_OPENING = "(?:please|now|ok|okay|great|thanks|thank you|next|then|and|can you|could you|bitte|por favor)"
_TASK = (
    r"(?:translate|write|paraphrase|summari[sz]e|proofread|classify|reply to|respond to|analy[sz]e|spell|define"
    r"|übersetz\w*|tradu\w+|переведи\w*|çevir\w*|dịch|ترجم\w*|翻译|翻譯|翻訳|번역)"
)
_OPEN = "\"'\u201c\u201e\u00ab\u300c"
_QUOTED = "|".join((
    "\"[^\"]+\"", "\u201c[^\u201d]+\u201d", "\u201e[^\u201c\u201d]+[\u201c\u201d]", "\u00ab[^\u00bb]+\u00bb",
    "\u300c[^\u300d]+\u300d", r"'(?:[^']|(?<=\w)'(?=\w))+'",
))  # fmt: skip
_LANGUAGE_AFTER = r"(?:(?:in)?to|in|ins|auf|al?|en|para|на|as|for) (?:\w+ ?){1,3}"
_QUOTING = re.compile(
    rf"^(?P<task>\W*(?:{_OPENING}\W+){{0,3}}{_TASK}[^.!?;\n{_OPEN}]{{0,60}}\s?)(?:{_QUOTED})"
    rf"(?P<after>\s*{_LANGUAGE_AFTER})?\W*$",
    re.IGNORECASE,
)
_OF_BEFORE = re.compile(r"\b(?:again|instead|not|I (?:said|asked|told|wanted|meant))\b", re.IGNORECASE)
_APOSTROPHES = str.maketrans("\u2018\u2019", "''")


def without_look_alikes(text: str) -> str | None:
    """The turn without what only looks like a complaint; None if it holds nothing of that kind."""
    plain = text.translate(_APOSTROPHES)
    english, abroad = _phrases()
    if len(plain) <= 2 * HEAD:
        quoting = _QUOTING.match(plain)
        if quoting and not _OF_BEFORE.search(quoting["task"]):
            return f"{quoting['task']}{quoting['after'] or ''}"
        if abroad.fullmatch(plain):
            return ACCEPTED
    accepted, count = english.subn(ACCEPTED, plain)
    return accepted if count else None


def look_alikes_version() -> str:
    """Identifies the phrases and the code that reads them."""
    return stable_hash(files(book).joinpath(_PAGE).read_text("utf-8"), VERSION)


@cache
def _phrases() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Those of English, anywhere in a turn; a whole turn of those of the other languages and of words that agree."""
    sections = read_sections(_PAGE)
    english, agreeing = (_one_of(sections.pop(name)) for name in ("english", "agreeing"))
    abroad = _one_of(line for lines in sections.values() for line in lines)
    whole = rf"(?=.*{abroad})\W*+(?>(?>{abroad}|{agreeing})\W*+)++"  # atomic: some words can be read in two ways
    return re.compile(english, re.IGNORECASE), re.compile(whole, re.IGNORECASE | re.DOTALL)


def _one_of(lines: Iterable[str]) -> str:
    return f"(?:{'|'.join(f'(?:{line})' for line in lines)})"
