"""Files cut into rows: JSON Lines, JSON arrays, objects one behind another, pages of an API and Parquet, recognised by
their first bytes and read as a stream.

A row that cannot be read is a `Reject`; reading goes on behind it.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from drift.logs.files.cutting import CUT, MAX_ROW_BYTES, PAGE_KEYS, TOO_LARGE, Cutter, page_rows_start
from drift.logs.files.opening import CHUNK, Opened, Progress, Repair, open_log
from drift.logs.files.parquet import parquet_values
from drift.records import Reason

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
_AFTER_KEY = re.compile(rb'"[ \t\r\n]*+:')
_QUOTED_KEY = re.compile(rb'\\"[ \t\r\n]*+:')  # inside of a text
_SHORT_WORD = re.compile(r"[\w.:/-]{1,30}")
_TOLD_EVERY = 64  # rows: where a file is at takes about as long to ask as a short row takes to read


class Place(NamedTuple):
    """Where a row stands in its file, from 1: its line and, in an array or in Parquet (where both say the same), its
    number among the elements."""

    line: int
    element: int | None = None


class LogRow(NamedTuple):
    at: Place
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not used, and why. `rows`: how many rows are gone with it; `file` is added by whoever knows it."""

    at: Place
    reason: Reason
    detail: str
    rows: int = 1
    file: str = ""


class Unusable(Exception):
    """Raised while a row is read: why it cannot become a conversation."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_rows(path: Path, progress: Progress, repairs: Counter[Repair] | None = None) -> Iterator[LogRow | Reject]:
    """Rows of one file (or of stdin) in their order; `progress` is told how many of its bytes are done.

    What had to be mended is counted in `repairs`. Raises DataError if the file is damaged as a whole.
    """
    with open_log(path) as log:
        found = _found_rows(path, log, lambda: progress(log.position()))
        last, repairs = 0, Counter() if repairs is None else repairs
        for row, repair in found:
            if repair is not None:
                repairs[repair] += 1
            if log.recoded:
                repairs[Repair.RECODED_UTF16] += 1
            last = row.at.line
            yield row
        if log.damage:
            detail = f"the packed file could not be read behind this line: {log.damage}"
            yield Reject(Place(last + 1), Reason.DAMAGED_STREAM, detail)


def _found_rows(path: Path, log: Opened, advanced: Callable[[], None]) -> Iterator["_Found"]:
    head: bytes = log.stream.peek(CHUNK)  # type: ignore[attr-defined] (a BufferedReader)
    if head.startswith(b"PAR1"):
        yield from _parquet_rows(path, log, advanced)
        return
    mark = len(head) - len(head.removeprefix(BOM).lstrip(SPACE))
    start = head[mark:]
    if start.startswith(b"["):
        yield from _pieces(Cutter(log.stream, advanced, mark + 1))
    elif not start.startswith(b"{") or _is_lines(start):
        yield from _line_rows(log.stream, advanced)
    elif (inside := page_rows_start(start)) is not None:
        yield from _pieces(Cutter(log.stream, advanced, mark + inside, in_pages=True))
    elif b"\n" in start:
        yield from _pieces(Cutter(log.stream, advanced, mark))
    else:
        yield from _line_rows(log.stream, advanced)


def _is_lines(start: bytes) -> bool:
    """Is the first line a row, or a broken one of many? Printed over several lines, an object goes on with a key."""
    line, newline, rest = start.partition(b"\n")
    if not newline:
        return len(start) < CHUNK // 2
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return rest.lstrip(SPACE)[:1] not in (b'"', b"}")
    return True


def _parquet_rows(path: Path, log: Opened, advanced: Callable[[], None]) -> Iterator["_Found"]:
    for number, read in enumerate(parquet_values(str(path), log.stream), 1):
        at = Place(number, number)
        if read.value is None:
            yield Reject(at, Reason.BAD_CONTENT, f"a value that cannot be read: {read.problem}"), None
        else:
            yield LogRow(at, read.value), None
        advanced()


def _line_rows(file: BinaryIO, advanced: Callable[[], None]) -> Iterator["_Found"]:
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(CHUNK)
            yield Reject(Place(number), Reason.TOO_LARGE, f"more than {MAX_ROW_BYTES} bytes in one row"), None
        elif line := line.removeprefix(BOM).strip(SPACE):
            row, repair = _row(Place(number), line)
            for inner in _unwrapped(row):
                yield inner, repair
        if number % _TOLD_EVERY == 0:
            advanced()
    advanced()


def _pieces(cutter: Cutter) -> Iterator["_Found"]:
    for piece in cutter.pieces():
        at = Place(piece.line, piece.number)
        if piece.problem == TOO_LARGE:
            yield Reject(at, Reason.TOO_LARGE, f"more than {MAX_ROW_BYTES} bytes in one element"), None
        elif piece.problem == CUT:
            yield Reject(at, Reason.BROKEN_JSON, "the file ends inside this element"), None
        else:
            row, repair = _row(at, piece.raw)
            piece.broken = isinstance(row, Reject)
            yield row, repair


def _unwrapped(row: LogRow | Reject) -> Iterable[LogRow | Reject]:
    """A page of an API (`{"data": [...], "meta": ...}`) as its rows."""
    inner = row.value.get("data") if isinstance(row, LogRow) else None
    if isinstance(row, Reject) or not isinstance(inner, list) or row.value.keys() - PAGE_KEYS:
        return (row,)
    return (_object(Place(row.at.line, number), value) for number, value in enumerate(inner, 1))


def _object(at: Place, value: Any) -> LogRow | Reject:
    is_row = isinstance(value, dict)
    return LogRow(at, value) if is_row else Reject(at, Reason.NOT_AN_OBJECT, f"a {type(value).__name__}, not an object")


def _row(at: Place, raw: bytes) -> "_Found":
    try:
        value, repair = _parse(raw)
    except (ValueError, RecursionError) as error:
        return Reject(at, Reason.BROKEN_JSON, str(error)), None
    if not isinstance(value, dict):
        return _object(at, value), None
    if (name := _key_given_twice(raw, value)) is not None:
        return Reject(
            at, Reason.DUPLICATE_KEYS, f"{shown(name)} stands twice in one object, with different values"
        ), None
    return LogRow(at, value), repair


def _parse(raw: bytes) -> tuple[Any, Repair | None]:
    try:
        return orjson.loads(raw), None
    except orjson.JSONDecodeError:
        # Half a surrogate pair, a byte that is no UTF-8 or a raw control character is no reason to lose a conversation.
        text, repair = _decoded(raw)
        value = json.loads(text, strict=False)
        whole = encodable(json.dumps(value, ensure_ascii=False))  # half a pair in an id would stop whoever hashes it
        return json.loads(whole, strict=False), repair or Repair.LENIENT_JSON


def encodable(text: str) -> str:
    """Halves of surrogate pairs become U+FFFD, because Parquet holds UTF-8; null bytes stay."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def shown(value: Any) -> str:
    """A value of a row as a note may name it: one short word as it is; of all else, which may be what somebody wrote,
    the type and the length."""
    told = "nothing" if value is None else str(value) if isinstance(value, str | bool | int | float) else ""
    if _SHORT_WORD.fullmatch(told):
        return repr(value) if isinstance(value, str) else told
    unit = "characters" if isinstance(value, str) else "entries"
    return f"a {type(value).__name__}" + (f" of {len(value)} {unit}" if isinstance(value, Sized) else "")


def _decoded(raw: bytes) -> tuple[str, Repair | None]:
    """UTF-8; if no byte above 127 is part of a character of it, Latin-1 (as Windows writes it); else damaged UTF-8."""
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        replaced = raw.decode(errors="replace")
    if any(character > "\x7f" and character != "\ufffd" for character in replaced):
        return replaced, Repair.BYTES_REPLACED
    return raw.decode("cp1252", errors="replace"), Repair.READ_AS_LATIN1


def _key_given_twice(raw: bytes, value: dict[str, Any]) -> str | None:
    """A key that one object holds twice with different values: a parser keeps the last and loses the others silently.

    Keys are counted in the bytes and in the parsed value, and only where these differ is the row parsed again.
    """
    colons = raw.count(b":")
    parsed = _keys(value, colons)
    if colons <= parsed:
        return None
    written = len(_AFTER_KEY.findall(raw))
    if written <= parsed or written - len(_QUOTED_KEY.findall(raw)) <= parsed:
        return None
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, inner in items:
            if key in kept and kept[key] != inner:
                found.append(key)
            kept[key] = inner
        return kept

    with contextlib.suppress(ValueError, RecursionError):
        json.loads(_decoded(raw)[0], strict=False, object_pairs_hook=pairs)
    return found[0] if found else None


def _keys(value: dict[str, Any], enough: int) -> int:
    """How many keys all objects in a parsed value hold, or `enough` of them; without recursion, for deep values."""
    count = len(value)
    left: list[Any] = [value]
    for inner in left:  # which grows meanwhile
        if count >= enough:
            break
        for child in inner.values() if type(inner) is dict else inner:
            kind = type(child)
            if kind is dict:
                count += len(child)
                left.append(child)
            elif kind is list:
                left.append(child)
    return count


_Found = tuple[LogRow | Reject, Repair | None]
