"""Open log files, and stdin (`-`), as streams of plain UTF-8.

The first bytes of a file show its compression and its encoding; its name does not count.
"""

import codecs
import contextlib
import gzip
import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from drift.errors import DataError
from drift.logs.files.remote import RemoteFile

KINDS = (".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv")
STDIN = Path("-")
CHUNK = 2**20
_PACKED_CHUNK = 2**14  # the most that is lost of a zstd file that was cut off
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SQLITE = b"SQLite format 3\0"
_TAR, _TAR_AT = b"ustar", 257
_UNREADABLE = {b"PK\x03\x04": "a zip archive", b"BZh": "packed with bzip2", b"\xfd7zXZ": "packed with xz"}
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    *((bytes((sign, 0)), "utf-16-le") for sign in b"{[ \n\r\t"),
    *((bytes((0, sign)), "utf-16-be") for sign in b"{[ \n\r\t"),
)

Progress = Callable[[int], None]
AnyFile = Path | RemoteFile


class Repair(StrEnum):
    """What was repaired so that a row could be read. Counted beside the outcomes: such rows are not lost."""

    RECODED_UTF16 = "recoded_utf16"
    READ_AS_LATIN1 = "read_as_latin1"
    BYTES_REPLACED = "bytes_replaced"
    TIME_NOT_READ = "time_not_read"  # its conversation stands in the order of the rows, as one without a time
    REPLY_FIRST = "reply_first"  # a chat of a table without times that begins with a reply and ends with a request
    SOURCES_REMOVED = "sources_removed"  # marks of sources in the replies of a conversation
    LENIENT_JSON = "lenient_json"  # half a surrogate pair, a raw control character, NaN


def decoded(raw: bytes) -> tuple[str, Repair | None]:
    """Decode as UTF-8; if no byte above 127 forms a UTF-8 character, as Windows' Latin-1; else as UTF-8 with gaps."""
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        replaced = raw.decode(errors="replace")
    if any(character > "\x7f" and character != "\ufffd" for character in replaced):
        return replaced, Repair.BYTES_REPLACED
    return raw.decode("cp1252", errors="replace"), Repair.READ_AS_LATIN1


def plain_value(value: Any) -> Any:
    """A value as JSON and CSV have it, also those inside of it; bytes and times stay for who reads them."""
    if value is None or isinstance(value, str | bool | int | float | bytes | datetime):
        return value
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: plain_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(inner) for inner in value]
    return bytes(value) if isinstance(value, memoryview) else str(value)


def json_value(value: Any) -> Any:
    """What stands for a value that JSON does not have: bytes are text that a table does not call so."""
    return encodable(value.decode(errors="replace")) if isinstance(value, bytes) else str(value)


def encodable(text: str) -> str:
    """Replace halves of surrogate pairs by U+FFFD, because Parquet holds UTF-8. Null bytes stay."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def kind_of(path: AnyFile) -> str | None:
    """The kind of file that a name ends with, also of a packed one; None if it is none of KINDS."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    return next((kind for kind in KINDS if name.endswith(kind)), None)


@dataclass(slots=True)
class Opened:
    """A log as plain UTF-8. `damage`: why a packed file could not be read to its end."""

    stream: BinaryIO
    position: Callable[[], int]
    _unpacked: "_Unpacked | None" = None
    recoded: bool = False

    @property
    def is_packed(self) -> bool:
        return self._unpacked is not None

    @property
    def damage(self) -> str | None:
        return self._unpacked.damage if self._unpacked else None


@contextlib.contextmanager
def open_log(path: AnyFile, member: str | None = None) -> Iterator[Opened]:
    """Open a log file, or the member of a zip archive. Raises DataError if it cannot be read, or if its compression is
    not supported."""
    with contextlib.ExitStack() as open_files:
        opened = _opened(path, member, open_files)
        file = opened.stream
        start = _peek(file)
        if start.startswith(_SQLITE):
            raise DataError(f"{path}: an SQLite database. Name its table: sqlite:///{path}?table=NAME")
        _check_readable(path, start)
        packed = (
            gzip.GzipFile(fileobj=file) if start.startswith(_GZIP) else _zstd(file) if start.startswith(_ZSTD) else None
        )
        if packed is not None:
            opened._unpacked = _Unpacked(packed)
            opened.stream = io.BufferedReader(opened._unpacked, CHUNK)
        start = _peek(opened.stream)
        _check_readable(path, start)
        if encoding := next((name for mark, name in _MARKS if start.startswith(mark)), None):
            opened.stream = io.BufferedReader(_Recoded(opened.stream, encoding), CHUNK)
            opened.recoded = True
        yield opened


def _check_readable(path: AnyFile, start: bytes) -> None:
    """Raises DataError for a container that is not read, by its first bytes: those of the file, or what it holds packed
    (`logs.tar.gz`)."""
    if start[_TAR_AT:].startswith(_TAR):
        raise DataError(f"{path}: a tar archive. Unpack it: tar -xf {path}")
    for mark, what in _UNREADABLE.items():
        if start.startswith(mark):
            if path.suffix.lower() in (".xlsx", ".ods"):
                raise DataError(f"{path}: a workbook of a spreadsheet program. Save the sheet as CSV UTF-8.")
            raise DataError(f"{path}: {what}. Unpack it, or pack it with gzip or zstd.")


def _opened(path: AnyFile, member: str | None, open_files: contextlib.ExitStack) -> Opened:
    if path == STDIN:
        return Opened(io.BufferedReader(_FilledReads(sys.stdin.buffer), CHUNK), lambda: 0)
    if member is None:
        file = open_files.enter_context(open_file(path))
        return Opened(file, file.tell)
    try:
        archive = open_files.enter_context(zipfile.ZipFile(open_files.enter_context(open_file(path))))
        inside = open_files.enter_context(archive.open(member))
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, KeyError) as error:
        raise DataError(f"{path}: cannot read {member} in this zip archive: {error}. Unpack it.") from None
    unpacked = _Unpacked(inside)
    return Opened(io.BufferedReader(unpacked, CHUNK), inside.tell, unpacked)


def size_of(file: AnyFile) -> int:
    """In bytes, as it is stored."""
    return file.size if isinstance(file, RemoteFile) else file.stat().st_size


def state_of(file: AnyFile) -> int | str:
    """What changes when the content changes. It is compared with what it was, never with a clock."""
    return file.version if isinstance(file, RemoteFile) else file.stat().st_mtime_ns


def open_file(path: AnyFile) -> BinaryIO:
    """For reading, from any place on. Raises DataError if it cannot be read."""
    if isinstance(path, RemoteFile):
        return io.BufferedReader(path.open(), CHUNK)  # type: ignore[arg-type] (a buffer over larger blocks)
    try:
        return path.open("rb", buffering=CHUNK)
    except OSError as error:
        raise DataError(
            f"{path}: cannot read this file: {error.strerror}. Check its permissions, or leave it out."
        ) from None


def _peek(stream: BinaryIO) -> bytes:
    """The next bytes, without consuming them: the whole buffer, at least 1 byte unless the stream is at its end."""
    return stream.peek(CHUNK)  # type: ignore[attr-defined] (every stream here is a BufferedReader)


def _zstd(file: BinaryIO) -> "_Source":
    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _FilledReads(io.RawIOBase):
    """A pipe whose reads are filled up, so that the first read is long enough to recognise the format."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview", /) -> int:  # type: ignore[override]
        done = 0
        while done < len(buffer) and (chunk := self._chunk(len(buffer) - done)):
            buffer[done : done + len(chunk)] = chunk
            done += len(chunk)
        return done

    def _chunk(self, room: int) -> bytes:
        return self._source.read(room)


class FilePart(_FilledReads):
    """The next `size` bytes of a file."""

    def __init__(self, source: _Source, size: int) -> None:
        super().__init__(source)
        self._left = size

    def _chunk(self, room: int) -> bytes:
        chunk = self._source.read(min(room, self._left))
        self._left -= len(chunk)
        return chunk


class _Unpacked(_FilledReads):
    """A packed file, read up to the first damage; then `damage` is set."""

    def __init__(self, source: _Source) -> None:
        super().__init__(source)
        self.damage: str | None = None

    def _chunk(self, room: int) -> bytes:
        if self.damage:
            return b""
        try:
            if isinstance(self._source, gzip.GzipFile):
                return self._source.read1(room)
            return self._source.read(min(room, _PACKED_CHUNK))
        except (EOFError, OSError, zlib.error, zipfile.BadZipFile, pa.ArrowException) as error:
            self.damage = str(error).splitlines()[0]
            return b""


class _Recoded(_FilledReads):
    """A stream in another encoding, as UTF-8. What cannot be decoded becomes U+FFFD."""

    def __init__(self, source: _Source, encoding: str) -> None:
        super().__init__(source)
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._rest = b""
        self._ended = False

    def _chunk(self, room: int) -> bytes:
        while not self._rest and not self._ended:
            raw = self._source.read(CHUNK)
            self._ended = not raw
            self._rest = self._decoder.decode(raw, final=self._ended).encode()
        chunk, self._rest = self._rest[:room], self._rest[room:]
        return chunk
