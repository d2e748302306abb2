"""Cut a stream of JSON (an array, or objects one after another) into its elements.

The elements are not parsed here, so that one broken element does not cost the rest.
"""

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

import orjson

from drift.logs.files.opening import CHUNK

MAX_ROW_BYTES = 32 * 2**20
_HEAD_BYTES = 1000  # more than `_ELEMENT_HEAD` or `_PAGE_ROWS` can match
# Up to the next bracket outside of strings; no match while a string is incomplete. Possessive: never backtracks.
_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]])', re.DOTALL)
_SCALAR = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+"|[^,\]"])*+')
_ELEMENT_HEAD = re.compile(rb'(\{)\s*("(?:[^"\\]++|\\.)*+")\s*(:)')
_SEPARATORS = re.compile(rb"[\s,]*")

_PAGE_ROWS = re.compile(rb'"data"\s*:\s*\[')
_NEXT_ARRAY = re.compile(rb"\s*\[")
_PAGE_NAMES = (
    "data meta object has_more first_id last_id next next_cursor next_page cursor cursors page total links url limit"
    " offset count"
)
PAGE_KEYS = frozenset(_PAGE_NAMES.split())

TOO_LARGE = "too large"
CUT = "cut"


class Piece:
    """One element: its line, its number, and its bytes or its problem (TOO_LARGE, CUT)."""

    __slots__ = ("broken", "line", "number", "problem", "raw")

    def __init__(self, line: int, number: int, raw: bytes, problem: str | None) -> None:
        self.line = line
        self.number = number
        self.raw = raw
        self.problem = problem
        self.broken = problem is not None  # also set by the code that parses the piece


class Cutter:
    """Cuts elements from the byte `start` of a stream on: of one array, of several in a row, or without an array.

    `advanced` is called after each read. `in_pages`: the arrays are the `data` of objects whose other keys are skipped.
    """

    def __init__(self, stream: BinaryIO, advanced: Callable[[], None], start: int, in_pages: bool = False) -> None:
        self._stream = stream
        self._advanced = advanced
        self._buffer = b""
        self._at = 0  # start of the current element in the buffer
        self._line = 1  # of that place
        self._start = start
        self._in_pages = in_pages
        self._next_element: re.Pattern[bytes] | None = None

    def pieces(self) -> Iterator[Piece]:
        """Yield the elements. The caller sets `broken` on a piece that it cannot parse before it takes the next."""
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
        # In proportion to the buffer: after each read, a large element is scanned again from its start.
        chunk = self._stream.read(max(CHUNK, len(self._buffer) - self._at))
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        self._advanced()
        return bool(chunk)

    def _skip(self, size: int) -> None:
        self._line += self._buffer.count(b"\n", self._at, self._at + size)
        self._at += size

    def _seek_element(self) -> bool:
        """Go to the next element; False at the end. After an array's end, another array may begin."""
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
        """After an array's end: go into the next array; False if there is none."""
        while True:
            find = _PAGE_ROWS.search if self._in_pages else _NEXT_ARRAY.match
            if match := find(self._buffer, self._at):
                self._skip(match.end() - self._at)
                return True
            if self._in_pages:
                self._skip(max(len(self._buffer) - self._at - _HEAD_BYTES, 0))
            elif self._buffer[self._at :].strip():
                return True  # not an array: it is read as elements, and refused
            if not self._read():
                return False

    def _element_size(self) -> int | None:
        """The size of the current element in bytes; None if it is too large or the file ends inside it."""
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
        """Go behind the element. From a broken one, go to its end or to what looks like the next start, if nearer.

        Elements that the same program wrote start alike: a brace and the same first key.
        """
        if self._next_element is None and (head := _ELEMENT_HEAD.match(self._buffer, self._at)):
            self._next_element = re.compile(rb"[,\n]\s*" + rb"\s*".join(map(re.escape, head.groups())))
        if not broken and size is not None:
            self._skip(size)
            return
        while True:
            match = self._next_element.search(self._buffer, self._at + 1) if self._next_element else None
            sizes = [n for n in (size, match and match.start() - self._at) if n is not None]
            if sizes:
                self._skip(min(sizes))
                return
            self._skip(max(len(self._buffer) - self._at - _HEAD_BYTES, 0))
            if not self._read():
                self._skip(len(self._buffer))
                return


def page_rows_start(head: bytes) -> int | None:
    """The byte at which the rows of an API's page (`{"data": [...], "meta": ...}`) begin; None if it is not a page."""
    match = _PAGE_ROWS.search(head)
    if match is None:
        return None
    try:
        before = orjson.loads(head[: match.end()] + b"]}")
    except orjson.JSONDecodeError:
        return None
    return match.end() if before.keys() <= PAGE_KEYS else None
