"""JSON arrays, and objects one behind another, cut into their elements as a stream.

They are cut without being parsed, so that one broken element does not cost the rest.
"""

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

import orjson

from drift.logs.files.opening import CHUNK

MAX_ROW_BYTES = 32 * 2**20
_HEAD_BYTES = 1000  # longer than what an element begins with
# Up to the next bracket outside of strings; none while a string has no end yet. Possessive: never backtracks.
_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]])', re.DOTALL)
_SCALAR = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+"|[^,\]"])*+')
_ELEMENT_HEAD = re.compile(rb'(\{)\s*("(?:[^"\\]++|\\.)*+")\s*(:)')
_SEPARATORS = re.compile(rb"[\s,]*")

_PAGE_ROWS = re.compile(rb'"data"\s*:\s*\[')
_NEXT_ARRAY = re.compile(rb"\s*\[")
_PAGE_NAMES = (
    "data meta object has_more first_id last_id next next_cursor next_page cursor cursors page total links url"
)
PAGE_KEYS = frozenset(_PAGE_NAMES.split())

TOO_LARGE = "too large"
CUT = "cut"


class Piece:
    """One element: its line, its number, and its bytes or what is wrong with it (TOO_LARGE, CUT)."""

    __slots__ = ("broken", "line", "number", "problem", "raw")

    def __init__(self, line: int, number: int, raw: bytes, problem: str | None) -> None:
        self.line = line
        self.number = number
        self.raw = raw
        self.problem = problem
        self.broken = problem is not None  # whoever parses it may find that it is


class Cutter:
    """Elements from the byte `start` of the stream on: of one array or of several, one behind another, or bare ones.

    `advanced` is told after each read. `in_pages`: arrays stand as `data` in objects, whose other keys are left out.
    """

    def __init__(self, stream: BinaryIO, advanced: Callable[[], None], start: int, in_pages: bool = False) -> None:
        self._stream = stream
        self._advanced = advanced
        self._buffer = b""
        self._at = 0  # where the current element starts in the buffer
        self._line = 1  # of that place
        self._start = start
        self._in_pages = in_pages
        self._next_element: re.Pattern[bytes] | None = None

    def pieces(self) -> Iterator[Piece]:
        """Whoever takes a piece says on it whether it is broken, before it takes the next."""
        while len(self._buffer) < self._start and self._read():
            pass
        self._skip(self._start)
        number = 0
        while self._seek_element():
            number += 1
            line, size = self._line, self._element_size()
            if (len(self._buffer) - self._at if size is None else size) > MAX_ROW_BYTES:
                piece = Piece(line, number, b"", TOO_LARGE)
            elif size is None:
                piece = Piece(line, number, b"", CUT)
            else:
                piece = Piece(line, number, self._buffer[self._at : self._at + size], None)
            yield piece
            self._go_on(size, piece.broken)

    def _read(self) -> bool:
        # In proportion to the buffer: the tokens of a large element are looked at again after each read.
        chunk = self._stream.read(max(CHUNK, len(self._buffer) - self._at))
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        self._advanced()
        return bool(chunk)

    def _skip(self, size: int) -> None:
        self._line += self._buffer.count(b"\n", self._at, self._at + size)
        self._at += size

    def _seek_element(self) -> bool:
        """Go to the next element; False at the end. Behind an array's end another one may open."""
        while True:
            if match := _SEPARATORS.match(self._buffer, self._at):
                self._skip(match.end() - self._at)
            if self._at >= len(self._buffer):
                if not self._read():
                    return False
            elif self._buffer[self._at] == ord("]"):
                self._skip(1)
                if not self._open_next():
                    return False
            else:
                return True

    def _open_next(self) -> bool:
        """Behind an array's end: into the next array; False if there is none."""
        while True:
            find = _PAGE_ROWS.search if self._in_pages else _NEXT_ARRAY.match
            if match := find(self._buffer, self._at):
                self._skip(match.end() - self._at)
                return True
            if self._in_pages:
                self._skip(max(len(self._buffer) - self._at - _HEAD_BYTES, 0))
            elif self._buffer[self._at :].strip():
                return True  # what stands here is no array: it is read as elements, and refused as what it is
            if not self._read():
                return False

    def _element_size(self) -> int | None:
        """Bytes of the current element; None if it is too large or the file ends inside."""
        depth = size = 0
        while True:
            if self._buffer[self._at] not in b"{[":
                match = _SCALAR.match(self._buffer, self._at)
                if match and match.end() < len(self._buffer):
                    return max(match.end() - self._at, 1)
            else:
                while token := _BRACKET.match(self._buffer, self._at + size):
                    depth += 1 if token.group(1) in b"{[" else -1
                    size = token.end() - self._at
                    if depth == 0:
                        return size
            if len(self._buffer) - self._at > MAX_ROW_BYTES or not self._read():
                return None

    def _go_on(self, size: int | None, broken: bool) -> None:
        """Behind the element; behind a broken one to whatever comes first: its end, or what begins like an element.

        Elements that one program wrote begin alike: a brace and the same first key.
        """
        if self._next_element is None and (head := _ELEMENT_HEAD.match(self._buffer, self._at)):
            self._next_element = re.compile(rb"[,\n]\s*" + rb"\s*".join(map(re.escape, head.groups())))
        if not broken and size is not None:
            self._skip(size)
            return
        while True:
            found = self._next_element.search(self._buffer, self._at + 1) if self._next_element else None
            sizes = [n for n in (size, found and found.start() - self._at) if n is not None]
            if sizes:
                self._skip(min(sizes))
                return
            self._skip(max(len(self._buffer) - self._at - _HEAD_BYTES, 0))
            if not self._read():
                self._skip(len(self._buffer))
                return


def page_rows_start(head: bytes) -> int | None:
    """Where the rows of an API's page (`{"data": [...], "meta": ...}`) begin, if `head` opens one."""
    match = _PAGE_ROWS.search(head)
    if match is None:
        return None
    try:
        before = orjson.loads(head[: match.end()] + b"]}")
    except orjson.JSONDecodeError:
        return None
    return match.end() if before.keys() <= PAGE_KEYS else None
