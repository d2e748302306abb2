"""JSON that is nested deeper than the usual parsers go: a tree of replies that stand inside of each other."""

import json
import re
from collections.abc import Iterator
from typing import Any

from drift.logs.files.opening import encodable

MAX_DEPTH = 200_000  # a tree of 100,000 messages has two levels for each
TREE_KEYS = frozenset(("replies", "children"))
"""Keys of a message under which formats keep the messages that follow it; their readers are not recursive."""
_MAX_ROW_DEPTH = 500  # elsewhere than in a tree; readers, redaction and orjson (254) go into values recursively
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(strict=False)


class TooDeep(ValueError):
    """The text is nested deeper than anything of a log that is read."""


class RepeatedKey(ValueError):
    """A key that stands twice in one object. `name`: the key."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def parse_deep(text: str) -> Any:
    """The value of a JSON text, however deep its trees of replies are.

    Raises TooDeep; RepeatedKey; ValueError if this is no JSON.
    """
    top: list[Any] = []
    opened: list[dict[str, Any] | list[Any]] = [top]
    names = [""]  # in each object that is open, the key of the next value
    place = _skip(text, 0)
    while True:
        begin = text[place : place + 1]
        if begin in ("{", "["):
            value: Any = {} if begin == "{" else []
            end = place + 1
        else:
            value, end = _scalar(text, place)
        inside = opened[-1]
        if isinstance(inside, list):
            inside.append(value)
        else:
            if names[-1] in inside:
                raise RepeatedKey(names[-1])
            inside[names[-1]] = value
        place = _skip(text, end)
        if begin in ("{", "["):
            opened.append(value)
            names.append("")
            if len(opened) > MAX_DEPTH:
                raise TooDeep(f"nested more than {MAX_DEPTH:,} deep")
            if text[place : place + 1] not in ("}", "]"):
                names[-1], place = _key(text, place) if begin == "{" else ("", place)
                continue
        while True:  # behind a value
            if len(opened) == 1:
                if place < len(text):
                    raise ValueError(f"Extra data: char {place}")
                _check_depth(top[0])
                return top[0]
            is_object = isinstance(opened[-1], dict)
            mark = text[place : place + 1]
            place = _skip(text, place + 1)
            if mark == ",":
                names[-1], place = _key(text, place) if is_object else ("", place)
                break
            if mark != ("}" if is_object else "]"):
                raise ValueError(f"Expecting ',' delimiter: char {place}")
            opened.pop()
            names.pop()


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _scalar(text: str, place: int) -> tuple[Any, int]:
    value, end = _DECODER.raw_decode(text, place)
    return encodable(value) if isinstance(value, str) else value, end


def _key(text: str, place: int) -> tuple[str, int]:
    """The key at `place`, and where its value begins."""
    name, end = _scalar(text, place)
    end = _skip(text, end)
    if not isinstance(name, str) or text[end : end + 1] != ":":
        raise ValueError(f"Expecting a key and ':': char {place}")
    return name, _skip(text, end + 1)


def _check_depth(row: Any) -> None:
    """Raise TooDeep if anything but a tree of messages is deep: the messages of a row, or of its first object."""
    waiting: list[tuple[Any, int]] = [(row, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_ROW_DEPTH:
            raise TooDeep(f"nested more than {_MAX_ROW_DEPTH} deep elsewhere than in replies to replies")
        waiting += _inside(value, depth)


def _inside(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    """What a value holds, with its depth; messages inside of a message are as deep as this."""
    if isinstance(value, list):
        yield from ((one, depth + 1) for one in value if isinstance(one, dict | list))
    elif isinstance(value, dict):
        for name, one in value.items():
            if name in TREE_KEYS and depth <= 2 and isinstance(one, list):
                yield from ((reply, depth) for reply in one if isinstance(reply, dict))
                yield from ((reply, depth + 1) for reply in one if isinstance(reply, list))
            elif isinstance(one, dict | list):
                yield one, depth + 1
