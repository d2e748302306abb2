"""Parts of a large file of JSON Lines, which several processes read at the same time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from drift.logs.files.opening import (
    CHUNK,
    KINDS,
    STDIN,
    AnyFile,
    Progress,
    Repair,
    kind_of,
    open_file,
    open_log,
    size_of,
)
from drift.logs.files.rows import LogRow, Reject, has_lines, read_line_rows


@dataclass(frozen=True, slots=True)
class Section:
    """The lines of a file from the byte `start` on and before `stop`. Its rows count lines from `start`."""

    path: AnyFile
    start: int
    stop: int
    is_named: bool = True
    has_columns: bool = False

    @property
    def name(self) -> str:
        return str(self.path.resolve())

    @property
    def size(self) -> int:
        return self.stop - self.start

    def rows(self, progress: Progress, repairs: Counter[Repair]) -> Iterator[LogRow | Reject]:
        with open_file(self.path) as file:
            file.seek(self.start)
            yield from read_line_rows(file, self.stop, lambda: progress(file.tell() - self.start), repairs)

    def lines(self) -> int:
        """How many lines end in it."""
        with open_file(self.path) as file:
            file.seek(self.start)
            return sum(chunk.count(b"\n") for chunk in _chunks(file, self.size))


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (chunk := file.read(min(size, CHUNK))):
        size -= len(chunk)
        yield chunk


def cut_into_sections(path: AnyFile, size: int) -> list[Section]:
    """The file in sections of about `size` bytes; [] if only one process can read it: it is packed, recoded, or not
    JSON Lines."""
    total = 0 if path == STDIN else size_of(path)
    if total <= size or kind_of(path) == KINDS[3]:  # Parquet
        return []
    with open_log(path) as log:
        if log.damage or log.recoded or log.is_packed or not has_lines(log):
            return []
    starts = [0]
    with open_file(path) as file:
        while starts[-1] + size < total:
            file.seek(starts[-1] + size)
            file.readline()
            starts.append(file.tell())
    stops = [*starts[1:], total]
    return [Section(path, start, stop) for start, stop in zip(starts, stops, strict=True) if stop > start]
