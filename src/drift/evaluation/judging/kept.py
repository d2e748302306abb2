"""Rows that must outlive a killed command: appended one by one, read back by the next call of the same command."""

import os
from pathlib import Path
from typing import Generic, Self, TypeVar

import orjson

from drift.records import read_jsonl

Row = TypeVar("Row")


class KeptRows(Generic[Row]):
    """A JSON Lines file of one kind of record. Opening it cuts off what a kill left of a last line."""

    def __init__(self, path: Path, record: type[Row]) -> None:
        self.path = path
        self._record = record
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        _cut_torn_line(path)

    def rows(self) -> list[Row]:
        """In the order of writing. Raises DataError with file:line for a row that somebody damaged."""
        return list(read_jsonl(self.path, self._record))

    def append(self, row: Row) -> None:
        """On disk when this returns."""
        self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
