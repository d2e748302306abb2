"""Records as JSON: hashes of them, and files with one row per line."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import orjson

from drift.errors import DataError, first_problem
from drift.records.messages import MESSAGE_EXTRAS, ChatMessage
from drift.records.pairs import Drop

Record = TypeVar("Record")
Counts = dict[str, int | float]
"""What a stage counted, by name, as its manifest stores it."""


def stable_hash(*parts: object) -> str:
    """16 hex digits of sha256 over the parts' JSON; the same on every machine and in every session."""
    # as `json_of`, without a call more: ingestion hashes every conversation several times
    return hashlib.sha256(orjson.dumps(parts, _plain, orjson.OPT_PASSTHROUGH_DATACLASS)).hexdigest()[:16]


def json_of(value: object, option: int = 0) -> bytes:
    """JSON of records, and of lists and mappings of them. Messages are written without the extras that are unset, so
    that a plain message is `{role, content}`; what JSON does not know is written as its `str`."""
    return orjson.dumps(value, default=_plain, option=option | orjson.OPT_PASSTHROUGH_DATACLASS)


def _plain(value: object) -> object:
    if not is_dataclass(value):
        return str(value)
    named = {name: getattr(value, name) for name in _field_names(type(value))}
    return {**named, **value.extras()} if isinstance(value, ChatMessage) else named


@cache
def _field_names(record: type) -> tuple[str, ...]:
    """The fields to write of every row; those of MESSAGE_EXTRAS are written where they are set."""
    optional = (*MESSAGE_EXTRAS, "has_media", "is_cut") if issubclass(record, ChatMessage) else ()
    return tuple(field.name for field in fields(record) if field.name not in optional)


@cache
def _adapter(record: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(record)


def parsed(content: object, record: type[Record]) -> Record:
    """A record out of what JSON holds of it."""
    return _adapter(record).validate_python(content)


def read_jsonl(path: Path, record: type[Record]) -> Iterator[Record]:
    """Rows of a file that DRIFT wrote (or a user edited).

    Raises DataError with file:line if a row is invalid.
    """
    from pydantic import ValidationError

    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _adapter(record).validate_json(line)
            except ValidationError as error:
                raise DataError(f"{path}:{number}: invalid {record.__name__}: {first_problem(error, 'row')}") from None


def write_kept(path: Path, rows: Iterable[object]) -> Counts:
    """Write the rows that are not drops; returns `rows` and, by reason, `dropped.REASON`."""
    drops: Counter[str] = Counter()

    def kept() -> Iterator[object]:
        for row in rows:
            if isinstance(row, Drop):
                drops[f"dropped.{row.reason}"] += 1
            else:
                yield row

    return {"rows": write_jsonl(path, kept()), **drops}


def write_jsonl(path: Path, rows: Iterable[object]) -> int:
    """Write one JSON object per line; returns how many."""
    count = 0
    with path.open("wb") as out:
        for row in rows:
            out.write(json_of(row, orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count
