"""A text's sentences, verbatim: what a label shows as its evidence begins and ends at their borders."""

import re
from collections.abc import Iterator
from itertools import chain

LONGEST_EVIDENCE = 1000  # characters
_SPACE = re.compile(r"\s+")
_PARAGRAPH = re.compile(r"(?:[^\n]++|\n(?![ \t]*\n))++")
_QUOTED = re.compile(
    # Only what is closed again. A bracket after a colon is a smiley; an apostrophe opens nothing.
    r"""```.*?```|`[^`\n]+`|“[^“”]*”|„[^„“”]*[“”]|«[^«»]*»|「[^「」]*」"""
    r"""|(?<![:;=8-])\((?:[^()]|\([^()]*\))*\)|(?<![:;=8-])\[(?:[^\[\]]|\[[^\[\]]*\])*\]|\{[^{}\n]*\}"""
    r"""|(?<![^\s(\[{«“—–:=/-])(?:"(?=\S)[^"]*"|['‘](?=\S)(?:[^'’\n]|['’](?=\w)){0,300}['’](?!\w))""",
    re.DOTALL,
)
_CLOSING = "\"'”’“»›)]}*_`」"
_END = re.compile(
    rf"(?P<mark>\.\.+|…|[.!?]+)(?P<close>[{re.escape(_CLOSING)}]*)(?=\s|$)"
    r"|(?P<tight>(?<=\w)[.!?]*[!?]|\.\.+|…)(?=[^\W\d_])|[。！？]+[」”）]*|\n"
)
_OPENING = re.compile("[ \\t\\n\"“„‘'«([{*_`]*(.?)")
_BEFORE_A_WORD = re.compile(r"[\s(\[{\"“'‘/]")
_NUMBER_OF_A_LIST = re.compile(r"(?:^|\n)[ \t]*\(?(?:\d{1,3}|[A-Za-z])\Z")

_LONGEST_ABBREVIATION = 6  # letters, without full stops
_ALWAYS_SHORT = re.compile(r"dr|mr|mrs|ms|prof|st|e\.g|i\.e|eg|ie|vs|approx|cf|jr|sr|viz|incl|resp", re.IGNORECASE)
_SHORT_BEFORE_A_NUMBER = re.compile(r"nos?|figs?|pp?|vol|ch|sec|eq|ver|v|ca", re.IGNORECASE)
_SHORT_BEFORE_A_SMALL_LETTER = re.compile(
    r"etc|al|(?:[^\W\d_]\.)+[^\W\d_]|inc|ltd|co|corp|dept|est|min|max|avg", re.IGNORECASE
)


def sentences(text: str, longest: int) -> list[str]:
    """The sentences with a letter or digit in them, in order, each a verbatim part of the text without the white space
    around it. One that is longer than `longest` characters comes in pieces that end between words.

    A line break ends a sentence. Quotations, brackets and code belong to the sentence around them, whatever marks they
    hold; abbreviations, initials, decimals, addresses and the numbers of a list end none.
    """
    return [text[start:end] for start, end in sentence_spans(text, longest)]


def sentence_spans(text: str, longest: int) -> Iterator[tuple[int, int]]:
    """Where each of the `sentences` begins and ends."""
    for paragraph in _PARAGRAPH.finditer(text):
        start = 0
        for end in chain(_borders(paragraph[0]), (len(paragraph[0]),)):  # a caller may need the first ones alone
            yield from _pieces(text, paragraph.start() + start, paragraph.start() + end, longest)
            start = end


def _borders(paragraph: str) -> Iterator[int]:
    """Where a sentence of the paragraph ends."""
    quoted = _QUOTED.finditer(paragraph)
    begin = stop = 0  # of the quotation that ends behind the mark, or of the last one
    for end in _END.finditer(paragraph):
        while stop <= end.start() and (match := next(quoted, None)):
            begin, stop = match.span()
        is_inside = begin < end.start() < stop > end.end()
        if not is_inside and _ends(paragraph, end):
            yield end.end()


def _ends(paragraph: str, end: re.Match[str]) -> bool:
    """Does this mark, which stands in no quotation or at the very end of one, end the sentence?"""
    mark, closing = end["mark"], end["close"] or ""
    opened = _OPENING.match(paragraph, end.end())
    following = opened[1] if opened else ""
    if end["tight"]:  # no space after it, as people type; an address has such marks too
        return following.isupper() and not re.search(r"/\S*\Z", paragraph[max(0, end.start() - 99) : end.start()])
    if mark is None:
        return True
    trails_off = mark == "…" or mark.startswith("..")
    if trails_off or closing.strip("*_"):
        return not following.islower()
    return mark != "." or not _abbreviates(paragraph[max(0, end.start() - 24) : end.start()], following)


def _abbreviates(before: str, following: str) -> bool:
    """Is the full stop after `before` part of a word or of a list's number? `following`: the next letter or digit."""
    token = _BEFORE_A_WORD.split(before)[-1]
    if len(token) > _LONGEST_ABBREVIATION and "." not in token:  # as most words
        return False
    if _NUMBER_OF_A_LIST.search(before[-12:]):
        return True
    is_initial = len(token) == 1 and token.isupper() and token != "I"
    if is_initial or _ALWAYS_SHORT.fullmatch(token):
        return following != ""
    if _SHORT_BEFORE_A_NUMBER.fullmatch(token):
        return following.isdigit()
    return following.islower() and _SHORT_BEFORE_A_SMALL_LETTER.fullmatch(token) is not None


def _pieces(text: str, start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    """The span without the white space around it, cut between words where it is too long."""
    while start < end:
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        stop = start + len(piece.strip())
        if stop - start > longest:
            spaces = [space.start() for space in _SPACE.finditer(text, start, start + longest + 1)]
            stop = spaces[-1] if spaces else start + longest
        if any(map(str.isalnum, text[start:stop])):
            yield start, stop
        start = max(stop, start + 1)
