"""Cut a log file into rows: JSON Lines, a JSON array, objects one after another, pages of an API, Parquet, or CSV.

The first bytes of a file show which. Files are read as streams. A row that cannot be read becomes a `Reject`, and
reading continues with the next row.
"""

import contextlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import orjson

from drift.logs.files.cutting import CUT, MAX_ROW_BYTES, PAGE_KEYS, TOO_LARGE, Cutter, page_rows_start
from drift.logs.files.deep import RepeatedKey, TooDeep, parse_deep
from drift.logs.files.opening import CHUNK, AnyFile, FilePart, Opened, Progress, Repair, decoded, encodable, open_log
from drift.logs.files.parquet import parquet_values
from drift.logs.files.separated import is_separated, separated_rows
from drift.records import Reason

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
_AFTER_KEY = re.compile(rb'"[ \t\r\n]*+:')
_QUOTED_KEY = re.compile(rb'\\"[ \t\r\n]*+:')  # inside a string
# How a chat that is written as its list of messages alone begins, and all that its messages may hold: a table of
# messages names their chat in each row.
_MESSAGE_HEAD = re.compile(rb'\[\s*\{\s*"(?:role|from|content|value|id|type|name)"')
_OF_A_MESSAGE = frozenset((
    "role", "from", "content", "value", "name", "id", "type", "parts", "timestamp", "tool_calls", "tool_call_id",
    "function_call", "refusal", "audio", "annotations", "weight", "reasoning", "reasoning_content", "thinking",
    "metadata", "status",
))  # fmt: skip
TOO_DEEP = "nested about 1,000 deep or more; only trees of OpenAssistant and LibreChat may be"
FIRST_MESSAGES = 20
"""Messages by which a list of messages is known that is longer than the first bytes of its file."""
_DECODER, _NO_SPACE = json.JSONDecoder(), re.compile(r"\S")
_SHORT_WORD = re.compile(r"[\w.:/-]{1,30}")
_ROWS_PER_PROGRESS = 64  # asking for the file position takes about as long as reading a short row


class Place(NamedTuple):
    """The place of a row in its file, counted from 1: its line and, in an array, its number among the elements. In
    Parquet, both are the number of the row."""

    line: int
    element: int | None = None


class LogRow(NamedTuple):
    """A parsed row of a log, before a reader looks at it."""

    at: Place
    value: dict[str, Any]
    is_deep: bool = False
    """A tree of replies in this row is too deep for anything recursive."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not used, and why. `rows`: how many rows of the file it accounts for; `file` is filled in later."""

    at: Place
    reason: Reason
    detail: str
    rows: int = 1
    file: str = ""


class Unusable(Exception):
    """A row cannot become a conversation. Raised by readers, and turned into a `Reject` by their caller."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_rows(
    path: AnyFile, progress: Progress, repairs: Counter[Repair] | None = None, member: str | None = None
) -> Iterator[LogRow | Reject]:
    """Yield the rows of one file (or of stdin, or of a member of a zip archive) in order; `progress` gets the number of
    bytes done.

    `repairs` counts what had to be repaired. Raises DataError if the whole file is unreadable.
    """
    with open_log(path, member) as log:
        path = path if member is None else path / member
        last, repairs = 0, Counter() if repairs is None else repairs
        for row, repair in _repaired_rows(path, log, lambda: progress(log.position())):
            if repair is not None:
                repairs[repair] += 1
            if log.recoded:
                repairs[Repair.RECODED_UTF16] += 1
            last = row.at.line
            yield row
        if log.damage:
            detail = f"the packed file is damaged after this line: {log.damage}"
            yield Reject(Place(last + 1), Reason.DAMAGED_STREAM, detail)


def has_lines(log: Opened) -> bool:
    """True if the file is JSON Lines of objects: then lines can be read from any line on."""
    head: bytes = log.stream.peek(CHUNK)  # type: ignore[attr-defined] (a BufferedReader)
    start = head.removeprefix(BOM).lstrip(SPACE)
    return start.startswith(b"{") and _is_lines(start)


def read_line_rows(
    file: BinaryIO, stop: int, advanced: Callable[[], None], repairs: Counter[Repair]
) -> Iterator[LogRow | Reject]:
    """Yield the rows of JSON Lines from where the file stands to the byte `stop`, where a line ends."""
    part = io.BufferedReader(FilePart(file, stop - file.tell()), CHUNK)
    for row, repair in _line_rows(part, advanced):
        if repair is not None:
            repairs[repair] += 1
        yield row


def _repaired_rows(path: AnyFile, log: Opened, advanced: Callable[[], None]) -> Iterator["_RepairedRow"]:
    """Choose how to cut the file by its first bytes."""
    head: bytes = log.stream.peek(CHUNK)  # type: ignore[attr-defined] (a BufferedReader)
    if head.startswith(b"PAR1"):
        yield from _parquet_rows(path, log, advanced)
        return
    mark = len(head) - len(head.removeprefix(BOM).lstrip(SPACE))
    start = head[mark:]
    if _MESSAGE_HEAD.match(start) and (chats := _bare_chats(start, len(head) < CHUNK)) is not None:
        yield from _line_rows(log.stream, advanced) if chats == "lines" else _whole_row(log.stream, advanced)
    elif start.startswith(b"["):
        yield from _pieces(Cutter(log.stream, advanced, mark + 1))
    elif start and not start.startswith(b"{") and is_separated(path, head):
        yield from _separated_rows(path, log, advanced)
    elif not start.startswith(b"{") or _is_lines(start):
        yield from _line_rows(log.stream, advanced)
    elif (inside := page_rows_start(start)) is not None:
        yield from _pieces(Cutter(log.stream, advanced, mark + inside, in_pages=True))
    elif b"\n" in start:
        yield from _pieces(Cutter(log.stream, advanced, mark))
    else:
        yield from _line_rows(log.stream, advanced)


def _bare_chats(start: bytes, is_all: bool) -> str | None:
    """How chats stand in a file that are nothing but lists of messages: one in each of its "lines", or one in the
    "whole" file. None if the elements of the list are rows."""
    line, newline, rest = start.partition(b"\n")
    if (newline or is_all) and _is_chat(line):
        return "lines" if rest.lstrip(SPACE)[:1] in (b"", b"[") else None
    if not (_is_chat(start) if is_all else _begins_chat(start)):
        return None
    return "whole" if newline else "lines"


def _is_chat(raw: bytes) -> bool:
    """True if this is a list of messages, which say nothing about the chat that they belong to."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, list) and bool(value) and all(map(_is_bare_message, value))


def _begins_chat(start: bytes) -> bool:
    """The same of a list that goes on behind `start`, by its first messages."""
    text, messages = start.decode(errors="replace"), list[Any]()
    place = text.index("[") + 1
    with contextlib.suppress(ValueError, RecursionError):
        while len(messages) < FIRST_MESSAGES and (begin := _NO_SPACE.search(text, place)):
            value, end = _DECODER.raw_decode(text, begin.start())
            messages.append(value)
            place = text.index(",", end) + 1
    return bool(messages) and all(map(_is_bare_message, messages))


def _is_bare_message(value: Any) -> bool:
    return isinstance(value, dict) and bool(value.keys() & {"role", "from"}) and value.keys() <= _OF_A_MESSAGE


def _whole_row(file: BinaryIO, advanced: Callable[[], None]) -> Iterator["_RepairedRow"]:
    """The file as one row."""
    raw = file.read(MAX_ROW_BYTES + 1)
    if len(raw) > MAX_ROW_BYTES:
        yield Reject(Place(1), Reason.TOO_LARGE, f"more than {MAX_ROW_BYTES} bytes in one row"), None
    else:
        yield _row(Place(1), raw.removeprefix(BOM).strip(SPACE))
    advanced()


def _is_lines(start: bytes) -> bool:
    """True if the first line is a row, or a broken row of many. An object over several lines goes on with a key."""
    line, newline, rest = start.partition(b"\n")
    if not newline:
        return len(start) < CHUNK // 2
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return rest.lstrip(SPACE)[:1] not in (b'"', b"}")
    return True


def _parquet_rows(path: AnyFile, log: Opened, advanced: Callable[[], None]) -> Iterator["_RepairedRow"]:
    for number, row in enumerate(parquet_values(str(path), log.stream), 1):
        at = Place(number, number)
        if row.value is None:
            yield Reject(at, Reason.BAD_CONTENT, f"a value that Python cannot hold: {row.problem}"), None
        else:
            yield LogRow(at, row.value), None
        advanced()


def _separated_rows(path: AnyFile, log: Opened, advanced: Callable[[], None]) -> Iterator["_RepairedRow"]:
    for row in separated_rows(path, log.stream, advanced):
        if row.value is None:
            reason = Reason.TOO_LARGE if row.too_large else Reason.BROKEN_CSV
            yield Reject(Place(row.line), reason, row.problem or ""), None
        else:
            yield LogRow(Place(row.line), row.value), row.repair


def _line_rows(file: BinaryIO, advanced: Callable[[], None]) -> Iterator["_RepairedRow"]:
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
        if number % _ROWS_PER_PROGRESS == 0:
            advanced()
    advanced()


def _pieces(cutter: Cutter) -> Iterator["_RepairedRow"]:
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
    """The rows of an API's page (`{"data": [...], "meta": ...}`); any other row as it is."""
    inner = row.value.get("data") if isinstance(row, LogRow) else None
    if isinstance(row, Reject) or not isinstance(inner, list) or row.value.keys() - PAGE_KEYS:
        return (row,)
    return (_object(Place(row.at.line, number), value) for number, value in enumerate(inner, 1))


def _object(at: Place, value: Any) -> LogRow | Reject:
    """A row. A chat may be written as its list of messages alone."""
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        return LogRow(at, {"messages": value})
    is_row = isinstance(value, dict)
    return LogRow(at, value) if is_row else Reject(at, Reason.NOT_AN_OBJECT, f"{json_kind(value)}, not an object")


def _row(at: Place, raw: bytes) -> "_RepairedRow":
    try:
        value, repair = _parse(raw)
    except ValueError as error:
        return Reject(at, Reason.BROKEN_JSON, str(error)), None
    except RecursionError:
        return _deep_row(at, raw)
    if not isinstance(value, dict):
        return _object(at, value), None
    if (name := _key_given_twice(raw, value)) is not None:
        return Reject(
            at, Reason.DUPLICATE_KEYS, f"key {short_form(name)} appears twice in one object, with different values"
        ), None
    return LogRow(at, value), repair


def _deep_row(at: Place, raw: bytes) -> "_RepairedRow":
    text, repair = decoded(raw)
    try:
        value = parse_deep(text)
    except TooDeep as error:
        return Reject(at, Reason.NESTED_TOO_DEEP, str(error)), None
    except RepeatedKey as error:
        return Reject(at, Reason.DUPLICATE_KEYS, f"key {short_form(error.name)} appears twice in one object"), None
    except ValueError as error:
        return Reject(at, Reason.BROKEN_JSON, str(error)), None
    if not isinstance(value, dict):
        return Reject(at, Reason.NESTED_TOO_DEEP, TOO_DEEP), None
    return LogRow(at, value, is_deep=True), repair


def _parse(raw: bytes) -> tuple[Any, Repair | None]:
    try:
        return orjson.loads(raw), None
    except orjson.JSONDecodeError:
        # Half a surrogate pair, invalid UTF-8 or a raw control character is no reason to lose a conversation.
        text, repair = decoded(raw)
        value = json.loads(text, strict=False)
        clean = encodable(json.dumps(value, ensure_ascii=False))  # ids with half a pair could not be hashed
        return json.loads(clean, strict=False), repair or Repair.LENIENT_JSON


def short_form(value: Any) -> str:
    """A value as a message may quote it: one short word as it is; of anything else, which a person may have written,
    only the type and the length."""
    text = "nothing" if value is None else str(value) if isinstance(value, str | bool | int | float) else ""
    if _SHORT_WORD.fullmatch(text):
        return repr(value) if isinstance(value, str) else text
    unit = "characters" if isinstance(value, str) else "entries"
    return json_kind(value) + (f" of {len(value)} {unit}" if isinstance(value, Sized) else "")


def json_kind(value: Any) -> str:
    """What a value of a log is, in the words of JSON and not of Python."""
    if value is None:
        return "nothing"
    kinds = ((bool, "true or false"), (str, "a text"), (int | float, "a number"), (Mapping, "an object"))
    found = next((name for kind, name in kinds if isinstance(value, kind)), None)
    return found or ("a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}")


def _key_given_twice(raw: bytes, value: dict[str, Any]) -> str | None:
    """A key that appears twice in one object with different values: a parser silently keeps only the last value.

    Keys are counted in the bytes and in the parsed value; only if these counts differ, the row is parsed again.
    """
    colons = raw.count(b":")
    parsed = _keys(value, colons)
    if colons <= parsed:
        return None
    written = len(_AFTER_KEY.findall(raw))
    if written <= parsed or written - len(_QUOTED_KEY.findall(raw)) <= parsed:
        return None
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, inner in items:
            if key in values and values[key] != inner:
                repeated.append(key)
            values[key] = inner
        return values

    with contextlib.suppress(ValueError, RecursionError):
        json.loads(decoded(raw)[0], strict=False, object_pairs_hook=pairs)
    return repeated[0] if repeated else None


def _keys(value: dict[str, Any], enough: int) -> int:
    """Count the keys of all objects in a parsed value, at most about `enough`. Not recursive: values may be deep."""
    count = len(value)
    left: list[Any] = [value]
    for inner in left:  # the list grows meanwhile
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


_RepairedRow = tuple[LogRow | Reject, Repair | None]
