"""What the checkers measure in a reply: words, sentences, paragraphs, list items, and uses of a word.

They count as a reader would: a hyphenated word is one word, "Dr." ends no sentence, a list's numbers and Markdown's
stars are no words, and "the word river" mentions the river without using it.
"""

import re
import unicodedata

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'"})
_WORD = re.compile(r"(?:[^\W\d_]\.){2,}|\d+(?:[.,:]\d+)*|[^\W_]+(?:['\-‐‑][^\W_]+)*")
_LIST_MARKER = re.compile(r"^[ \t]*(?:[-*+•–]|\(?\d{1,3}[.)])[ \t]+", re.M)
_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+", re.M)
_BULLET = re.compile(r"^([ \t]*)[-*+•–][ \t]+(\S.*)$", re.M)
_NUMBERED = re.compile(r"^[ \t]*(?:\*\*)?(\d{1,3})[.)](?:\*\*)?[ \t]+(\S.*)$", re.M)
_MARKS = ' \t\n"“”„«»*_`~'
"""What may stand around a text without being part of what it says: quotation marks and Markdown."""

_NEVER_AN_END = {"dr", "mr", "mrs", "ms", "prof", "st", "e.g", "i.e", "vs", "approx", "cf", "jr", "sr"}
_NO_END_BEFORE_A_NUMBER = {"no", "fig", "p", "vol"}
_END_BEFORE_A_CAPITAL = {"etc", "a.m", "p.m", "u.s", "u.k", "inc", "ltd", "co", "b.c", "a.d"}
_STOP = re.compile(r"(?P<mark>\.\.\.|[.!?…。？！]+)(?P<close>[\"”’')\]*_»]*)(?=\s|$)")
_BEFORE_A_MENTION = frozenset({"word", "words", "term", "phrase", "name", "called"})


def plain(text: str) -> str:
    """Unicode in its composed form, with straight apostrophes and without zero-width characters."""
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
    return re.sub("[\u200b-\u200d\ufeff]", "", text).replace("\r\n", "\n").replace("\r", "\n")


def bare(text: str) -> str:
    """Without the white space, quotation marks and Markdown around it."""
    return plain(text).strip(_MARKS)


def words(text: str) -> list[str]:
    """The words as written. Numbers are words ("3.5" is one); the numbers of a numbered list are not."""
    return _WORD.findall(_LIST_MARKER.sub("", plain(text)))


def parts_of_words(text: str) -> list[str]:
    """In lower case, hyphenated words in their parts, and without a possessive 's."""
    parts = [part for word in words(text) for part in re.split("[-‐‑]", word.lower())]
    return [part.removesuffix("'s") for part in parts]


def uses(text: str, word: str, mentions: frozenset[str] = _BEFORE_A_MENTION) -> list[int]:
    """The places (counted in words) at which `word` is used as a whole word; "the word river" does not use it.

    `mentions`: the words before it in the same sentence that make it a mention.
    """
    text, wanted = plain(text), plain(word).lower()
    places, end, last = [], 0, ""
    for place, match in enumerate(_WORD.finditer(_LIST_MARKER.sub("", text))):
        found = match[0].lower()
        gap = match.string[end : match.start()]
        is_mention = last in mentions and not re.search(r"[.!?…\n]", gap)
        if found.removesuffix("'s") == wanted and not is_mention:
            places.append(place)
        end, last = match.end(), found
    return places


def sentences(text: str) -> list[str]:
    """The sentences with a word in them. A list item, a heading and a paragraph end one too; a single line break does
    not."""
    marked = re.sub(r"^(?=[ \t]*(?:[-*+•–]|\(?\d{1,3}[.)])[ \t]+\S)", "\n\n", plain(text), flags=re.M)
    marked = re.sub(r"^([ \t]*#{1,6}[ \t]+.*)$", r"\n\n\1\n\n", marked, flags=re.M)
    blocks = re.split(r"\n[ \t]*\n", marked)
    found = [piece for block in blocks for piece in _split(_HEADING.sub("", _LIST_MARKER.sub("", block.strip("\n"))))]
    return [piece for piece in found if words(piece)]


def _split(block: str) -> list[str]:
    pieces, start = [], 0
    for stop in _STOP.finditer(block):
        if _ends(block, stop):
            pieces.append(block[start : stop.end()])
            start = stop.end()
    return [*pieces, block[start:]]


def _ends(block: str, stop: re.Match[str]) -> bool:
    """Does the sentence end at this mark?"""
    following = block[stop.end() :].lstrip(" \t\n\"“‘'(*_")[:1]
    if stop["mark"] == ".":
        before = re.search(r"[^\s(\"“']*$", block[: stop.start()])
        token = before[0].lower() if before else ""
        is_initial = len(token) == 1 and token.isalpha() and token != "i"
        if token in _NEVER_AN_END or is_initial:
            return following == ""
        if token in _NO_END_BEFORE_A_NUMBER:
            return not following.isdigit()
        if token in _END_BEFORE_A_CAPITAL or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", token):
            return not following.islower()
        return True
    if stop["mark"] in ("...", "…") or any(mark in "\"”'’" for mark in stop["close"]):
        return not following.islower()
    return True


def paragraphs(text: str) -> list[str]:
    """Blocks between blank lines that have a word in them."""
    return [block for block in re.split(r"\n[ \t]*(?:\n[ \t]*)+", plain(text)) if words(block)]


def lines(text: str) -> list[str]:
    """The lines that are not blank, without the white space around them."""
    return [line.strip() for line in plain(text).split("\n") if line.strip()]


def bullets(text: str) -> list[str]:
    """The items of a bulleted list; those of a list inside an item are left out."""
    found = [(len(match[1].expandtabs(4)), match[2].strip()) for match in _BULLET.finditer(plain(text))]
    outer = min((indent for indent, _ in found), default=0)
    return [item for indent, item in found if indent < outer + 2 and words(item)]


def numbered(text: str) -> list[tuple[int, str]]:
    """The items of a numbered list with their numbers."""
    return [(int(match[1]), match[2].strip()) for match in _NUMBERED.finditer(plain(text)) if words(match[2])]


def all_differ(items: list[str]) -> bool:
    """No two items with the same words."""
    return len({tuple(word.lower() for word in words(item)) for item in items}) == len(items)


def without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
