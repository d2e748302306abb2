"""The conversation as the judge sees it: data between two marks that no text in it can write.

Whoever wrote the conversation may want its labels to come out in some way (a planted complaint trains the model). So
its text goes into JSON strings in which angle brackets, control, invisible and direction-changing characters are
escaped: it can close neither its string nor the fence, nor write a control token of a chat template.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from drift.records import Role

OPEN, CLOSE = "<conversation>", "</conversation>"
LONGEST = 6000
"""Characters of one message that the judge reads; of a longer one its beginning and its end."""

_SUSPECT = re.compile(r"[<>\x00-\x1f\x7f]|[^\x00-\x7f]|\[(?=/?[A-Z_]+\])")
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class FencedMessage:
    """A message as a line of the fenced conversation; `judge`: the judge shall label it."""

    turn: int
    speaker: Role
    text: str
    judge: bool = False


def fenced(lines: Iterable[FencedMessage]) -> str:
    """One JSON object per message, between the marks."""
    return "\n".join((OPEN, *map(_line, lines), CLOSE))


def escaped(text: str) -> str:
    """The inside of a JSON string; decoding it gives the text back exactly."""
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    return _SUSPECT.sub(lambda found: _escape(found[0]), plain)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Beginning and end of a long text, and how much was left out between them."""
    if len(text) <= longest:
        return text
    head, tail = longest * 2 // 3, longest // 3
    return f"{text[:head]} [... {len(text) - head - tail} characters left out ...] {text[-tail:]}"


def _line(line: FencedMessage) -> str:
    mark = ', "judge": true' if line.judge else ""
    return f'{{"turn": {line.turn}, "speaker": "{line.speaker}"{mark}, "text": "{escaped(shortened(line.text))}"}}'


@cache
def _escape(character: str) -> str:
    """Also of look-alikes: a tokenizer that normalises (NFKC) would turn them into the brackets themselves."""
    normal = unicodedata.normalize("NFKC", character)
    if character.isascii() or unicodedata.category(character) in _INVISIBLE or set(normal) & set('<>"\\[]|'):
        units = character.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
    return character
