"""How a reply begins and ends."""

import re

from drift.sandbox.instructions.constraints.text import bare, lines, plain, words

_INTRODUCES = {"with", "word", "words", "phrase", "saying", "say", "says"}
_STOPS = ".!?…,;: "


def _unmarked(text: str) -> str:
    """Without Markdown's marks for bold print and the like, and with single spaces."""
    return " ".join(re.sub(r"[*_`]+", "", plain(text)).split())


def begin_with(text: str, opening: str) -> bool:
    """Capital letters and Markdown around the beginning make no difference."""
    begins = re.sub(r"^(?:#{1,6}\s+|>\s*)", "", _unmarked(text))
    begins, wanted = bare(begins).lower(), plain(opening).strip(_STOPS).lower()
    return begins.startswith(wanted) and not begins[len(wanted) : len(wanted) + 1].isalnum()


def end_with(text: str, ending: str) -> bool:
    """The very last words; a last full stop makes no difference. `I end with "The end."` only talks about it."""
    ends, wanted = bare(_unmarked(text)).rstrip(_STOPS).lower(), plain(ending).strip(_STOPS).lower()
    ends = bare(ends)
    before = ends[: len(ends) - len(wanted)]
    if not ends.endswith(wanted) or before[-1:].isalnum():
        return False
    if before.rstrip(" \"“”'").endswith(tuple(".!?…")):
        return True
    return (words(before) or [""])[-1].lower() not in _INTRODUCES


def end_question(text: str) -> bool:
    return bare(text).endswith(("?", "？")) and len(words(text)) > 1


def last_line(text: str, marker: str) -> bool:
    """The last line begins with the marker and says something (at least two words), and it is not the only line."""
    found = lines(text)
    if len(found) < 2:
        return False
    key = re.sub(r"\W", "", marker).lower()
    pattern = r"[\W_]*" + r"[\s.]*".join(map(re.escape, key)) + r"\b[\W_]*"
    match = re.match(pattern, found[-1], re.I)
    return bool(match) and len(words(found[-1][match.end() :])) >= 2
