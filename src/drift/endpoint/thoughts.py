"""What a model thought and what it answered: both may stand in one text, between marks that differ from model to model.

Servers with a reasoning parser send the thoughts in a field of their own (`Choice.reasoning`); all others leave them in
the text.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable

MARKS = (
    *((f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "reasoning", "seed:think")),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
_OPEN = {opening.lower(): closing for opening, closing in MARKS}


def _any_of(marks: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, marks)), re.IGNORECASE | re.ASCII)


_ANY_OPEN = _any_of(_OPEN)
_ANY_CLOSE = _any_of(_OPEN.values())
_CLOSING = {opening: _any_of([closing]) for opening, closing in _OPEN.items()}
_SPACE = re.compile(r"\s*")
_FRAME = _any_of(("<|end|>", "<|start|>assistant", "<|begin_of_solution|>", "<|end_of_solution|>"))
_ANSWER = ("{", "[", "```")
_QUOTES = ("``", '""', "''", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb")
_FENCE = re.compile(r"^ {0,3}```", re.MULTILINE)


def split_thoughts(text: str) -> tuple[str, str]:
    """(thoughts, answer) of a text; without thoughts, ("", the text unchanged).

    A text that opens a thought and never closes it is all thoughts: it was cut. A closing mark without an opening one
    ends the thoughts too, because many chat templates write the opening mark into the prompt; not where the text only
    speaks of the mark (in quotes, in code, as a word of a sentence), and not in a text that begins with JSON or a code
    fence.
    """
    thoughts: list[str] = []
    place = 0
    while opening := _ANY_OPEN.match(text, _SPACE.match(text, place).end()):  # type: ignore[union-attr] (it matches "")
        closing = closing_mark(text, _CLOSING[opening[0].lower()], opening.end())
        thoughts.append(text[opening.end() : closing.start() if closing else None])
        place = closing.end() if closing else len(text)
    rest = text[place:]
    if not thoughts and not text.lstrip().startswith(_ANSWER) and (closing := _lone_closing_mark(text)):
        thoughts, rest = [text[: closing.start()]], text[closing.end() :]
    if not thoughts:
        return "", text
    return "\n".join(_FRAME.sub("", thought).strip() for thought in thoughts), _FRAME.sub("", rest).strip()


def closing_mark(text: str, marks: re.Pattern[str], place: int = 0) -> re.Match[str] | None:
    """The first mark from `place` on that closes the thoughts; one in quotes is only mentioned in them."""
    return next((mark for mark in marks.finditer(text, place) if not _is_quoted(text, mark)), None)


def _lone_closing_mark(text: str) -> re.Match[str] | None:
    """The mark that closes thoughts which the prompt opened. None if the text has none, or only speaks of them."""
    fences = [fence.start() for fence in _FENCE.finditer(text)]
    for mark in _ANY_CLOSE.finditer(text):
        before = bisect_left(fences, mark.start())
        in_code = before % 2 == 1 and before < len(fences)
        if not (in_code or _is_quoted(text, mark) or _is_word(text, mark)):
            return mark
    return None


def _is_quoted(text: str, mark: re.Match[str]) -> bool:
    """Between an opening and a closing quote. In `"yes"</think>"yes"` the quotes are those of the words beside it."""
    before, after = text[max(mark.start() - 2, 0) : mark.start()], text[mark.end() : mark.end() + 2]
    is_inside = before[-1:] + after[:1] in _QUOTES
    return is_inside and not (before[:-1].isalnum() or before[:-1] in tuple(".!?") or after[1:].isalnum())


def _is_word(text: str, mark: re.Match[str]) -> bool:
    """In the middle of a sentence: `The </think> tag ends them`."""
    before, after = text[max(mark.start() - 2, 0) : mark.start()], text[mark.end() : mark.end() + 2]
    goes_on = after[1:].islower()
    return before[-1:] == after[:1] == " " and (before[:-1].isalnum() or before[:-1] in tuple(",;")) and goes_on
