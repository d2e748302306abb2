"""JSON out of a model's text: models think first, write drafts, wrap the answer in prose and code fences, and break it.

Everything here reads an answer without its thoughts (`Choice.answer`).
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

_BEGIN = re.compile(r'\{(?=\s*["}])')
"""A brace that begins a JSON object; `{draft}` and `{x: 1}` are prose."""
_BRACE = re.compile(r"[{}]")
_LEAD = re.compile(r"[\s`>*]*(?:json)?[\s`]*", re.IGNORECASE)
_DECODER = json.JSONDecoder()
MOST_BROKEN = 100
"""Broken objects after which a text is given up; each costs a pass over what follows."""


@dataclass(frozen=True, slots=True)
class FoundObject:
    """`source`: the characters that were read as `value`."""

    value: dict[str, Any]
    source: str
    begins_line: bool


def find_object(text: str, fits: Callable[[dict[str, Any]], bool] = bool) -> FoundObject | None:
    """The last complete JSON object that fits what was asked; None without one.

    A model may write drafts before its answer, so the last one counts. The judge also quotes what users write, and a
    quoted object must not be read as its own answer. So nothing inside of another object counts, broken or not, and
    among several objects only those count that begin a line, or a code fence.
    """
    objects = [one for one in _objects(text) if fits(one.value)]
    of_its_own = [one for one in objects if one.begins_line]
    if of_its_own:
        return of_its_own[-1]
    return objects[0] if len(objects) == 1 else None


def json_object(text: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any] | None:
    """The value of `find_object`."""
    answer = find_object(text, fits)
    return None if answer is None else answer.value


def json_field(text: str, key: str) -> Any:
    """The value of `key` in the answer's object; if that is broken, what the last `"key":` is followed by.

    For answers whose prompt asks for `key` last, behind texts that quote freely: there a later value is the answer,
    and an earlier one is a quotation or a draft. Amid prose, an object that begins a line comes before one that does
    not: a judge that explains its verdict may quote what the judged text would like to be read. None if nothing is
    named so.
    """
    answers = [one for one in _objects(text) if key in one.value]
    prose = text
    for one in answers:
        prose = prose.replace(one.source, "", 1)
    if answers:
        own = [one for one in answers if one.begins_line] if prose.strip("` \n") else []
        return (own or answers)[-1].value[key]
    values = re.findall(rf'"{re.escape(key)}"\s*:\s*"?([^",}}\n]*)', text)
    return values[-1] if values else None


def _objects(text: str) -> Iterator[FoundObject]:
    """The outermost objects, in order. What a broken one contains, up to its closing brace, is passed over."""
    place = broken = 0
    while broken < MOST_BROKEN and (begin := _BEGIN.search(text, place)):
        start = begin.start()
        end = _end(text, start)
        source = text[start:end]
        value = _parsed(source)
        if value is not None:
            line = text[text.rfind("\n", 0, start) + 1 : start]
            yield FoundObject(value, source, _LEAD.fullmatch(line) is not None)
            place = end
        else:
            place, broken = _closing_brace(text, start), broken + 1


def _end(text: str, start: int) -> int:
    try:
        return _DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return start


def _parsed(source: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(source)  # stricter: no NaN
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _closing_brace(text: str, start: int) -> int:
    """Behind the brace that closes the one at `start`, whatever stands between; the end of the text without one."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)
