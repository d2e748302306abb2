"""Files cut into rows: JSON Lines, JSON arrays and Parquet, recognised by their first bytes and read as a stream.

A row that cannot be read is a `Reject`; reading goes on behind it.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from drift.errors import DataError
from drift.records import Reason

MAX_ROW_BYTES = 32 * 2**20
_CHUNK = 2**20
_HEAD_BYTES = 1000  # longer than what an element begins with
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
# Up to the next bracket outside of strings; none while a string has no end yet. Possessive: never backtracks.
_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]])', re.DOTALL)
_SCALAR = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+"|[^,\]"])*+')
_ELEMENT_HEAD = re.compile(rb'(\{)\s*("(?:[^"\\]++|\\.)*+")\s*(:)')
_SEPARATORS = re.compile(rb"[\s,]*")

Progress = Callable[[int], None]


class Place(NamedTuple):
    """Where a row stands in its file, from 1: its line and, in an array or in Parquet (where both say the same), its
    number among the elements."""

    line: int
    element: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    at: Place
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not used, and why."""

    at: Place
    reason: Reason
    detail: str


class Unusable(Exception):
    """Raised while a row is read: why it cannot become a conversation."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_rows(path: Path, progress: Progress) -> Iterator[Row | Reject]:
    """Rows of one file in their order; `progress` is told how many of its bytes are done.

    Raises DataError if the file is damaged as a whole.
    """
    with path.open("rb") as file:
        head = file.read(_CHUNK)
        file.seek(0)
        if head.startswith(b"PAR1"):
            yield from _parquet_rows(path, progress)
        elif head.removeprefix(_BOM).lstrip(_SPACE).startswith(b"["):
            yield from _ArrayCutter(file, progress).rows()
        else:
            yield from _line_rows(file, progress)


def _line_rows(file: BinaryIO, progress: Progress) -> Iterator[Row | Reject]:
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(_CHUNK)
            yield Reject(Place(number), Reason.TOO_LARGE, f"more than {MAX_ROW_BYTES} bytes in one row")
        elif line := line.removeprefix(_BOM).strip(_SPACE):
            yield _row(Place(number), line)
        progress(file.tell())


def _parquet_rows(path: Path, progress: Progress) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            # Moderation scores are most of the bytes of the public sets, and nothing reads them.
            columns = [name for name in file.schema_arrow.names if not name.endswith("_moderation")]
            total, number = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(batch_size=64, columns=columns, use_threads=False):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(Place(number, number), value)
                progress(path.stat().st_size * number // total)
    except (pa.ArrowException, OSError) as error:
        problem = str(error).splitlines()[0]
        raise DataError(f"{path}: damaged Parquet: {problem}. Get the file again, or leave it out.") from None


class _ArrayCutter:
    """Cuts a JSON array into its elements without parsing it, so that one broken element does not cost the rest."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress
        self._buffer = b""
        self._at = 0  # where the current element starts in the buffer
        self._line = 1  # of that place
        self._next_element: re.Pattern[bytes] | None = None

    def rows(self) -> Iterator[Row | Reject]:
        self._read()
        self._skip(self._buffer.index(b"[") + 1)
        number = 0
        while self._seek_element():
            number += 1
            at, size = Place(self._line, number), self._element_size()
            if (len(self._buffer) - self._at if size is None else size) > MAX_ROW_BYTES:
                row = Reject(at, Reason.TOO_LARGE, f"more than {MAX_ROW_BYTES} bytes in one element")
            elif size is None:
                row = Reject(at, Reason.BROKEN_JSON, "the file ends inside this element")
            else:
                row = _row(at, self._buffer[self._at : self._at + size])
            yield row
            self._go_on(size, broken=isinstance(row, Reject))

    def _read(self) -> bool:
        # In proportion to the buffer: the tokens of a large element are looked at again after each read.
        chunk = self._file.read(max(_CHUNK, len(self._buffer) - self._at))
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        self._progress(self._file.tell())
        return bool(chunk)

    def _skip(self, size: int) -> None:
        self._line += self._buffer.count(b"\n", self._at, self._at + size)
        self._at += size

    def _seek_element(self) -> bool:
        """Go to the next element; False at the array's end."""
        while True:
            if match := _SEPARATORS.match(self._buffer, self._at):
                self._skip(match.end() - self._at)
            if self._at < len(self._buffer):
                return self._buffer[self._at] != ord("]")
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
            self._next_element = re.compile(rb",\s*" + rb"\s*".join(map(re.escape, head.groups())))
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


def _row(at: Place, raw: bytes) -> Row | Reject:
    try:
        value = _parse(raw)
    except (ValueError, RecursionError) as error:
        return Reject(at, Reason.BROKEN_JSON, str(error))
    if not isinstance(value, dict):
        return Reject(at, Reason.NOT_AN_OBJECT, f"a {type(value).__name__}, not an object")
    return Row(at, value)


def _parse(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        # Half a surrogate pair, a byte that is no UTF-8 or a raw control character is no reason to lose a conversation.
        return json.loads(raw.decode("utf-8", errors="replace"), strict=False)
