"""What a model thought and what it answered: both may stand in one text, between marks that differ from model to model.

Servers with a reasoning parser send the thoughts in a field of their own (`Choice.reasoning`); all others leave them in
the text.
"""

import re
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
_QUOTES = ("`", '"', "'", "\u201c", "\u201d")


def split_thoughts(text: str) -> tuple[str, str]:
    """(thoughts, answer) of a text; without thoughts, ("", the text unchanged).

    A text that opens a thought and never closes it is all thoughts: it was cut. A closing mark without an opening one
    ends the thoughts too, because many chat templates write the opening mark into the prompt; not in a text that begins
    with JSON or a code fence, where the mark is a quotation.
    """
    thoughts: list[str] = []
    place = 0
    while opening := _ANY_OPEN.match(text, _SPACE.match(text, place).end()):  # type: ignore[union-attr] (it matches "")
        closing = _CLOSING[opening[0].lower()].search(text, opening.end())
        thoughts.append(text[opening.end() : closing.start() if closing else None])
        place = closing.end() if closing else len(text)
    rest = text[place:]
    if not thoughts and not text.lstrip().startswith(_ANSWER) and (closing := _ANY_CLOSE.search(text)):
        thoughts, rest = [text[: closing.start()]], text[closing.end() :]
    if not thoughts:
        return "", text
    return "\n".join(_FRAME.sub("", thought).strip() for thought in thoughts), _FRAME.sub("", rest).strip()


def only_speaks_of_thoughts(text: str) -> bool:
    """True if the text does not begin with thoughts, and a closing mark in it is quoted, in code, or a word of a
    sentence: a reply in a log may explain the marks."""
    if _ANY_OPEN.match(text, len(text) - len(text.lstrip())) or not (closing := _ANY_CLOSE.search(text)):
        return False
    before, after = text[max(closing.start() - 1, 0) : closing.start()], text[closing.end() : closing.end() + 1]
    is_quoted = before in _QUOTES and after in _QUOTES
    return is_quoted or (before == after == " ") or text.count("```", 0, closing.start()) % 2 == 1
