"""Cut CSV and TSV files into rows: one object per row, by the names in the header, with text or None as values.

The delimiter (comma, semicolon, tab or bar) and the way quotes are escaped show in the first rows. Python's csv module
reads them, not pyarrow or DuckDB: it gives the line of each row, a broken row costs that row alone, and a cell may be
as long as any other row. A broken row is often one with a lone quote, which swallows the rows after it: reading goes on
with the line after its first.
"""

import csv
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from drift.errors import DataError
from drift.logs.files.cutting import MAX_ROW_BYTES
from drift.logs.files.opening import CHUNK, AnyFile, Repair, decoded, kind_of

BOM = "\ufeff"
_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 30
_LONGEST_NAME = 80  # of a column, in a file whose name does not end with .csv or .tsv
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?')  # Excel's own first line
_ROWS_PER_PROGRESS = 64


class SeparatedRow(NamedTuple):
    """A row that begins in `line`: its value, or its problem."""

    line: int
    value: dict[str, str | None] | None
    problem: str | None = None
    too_large: bool = False
    repair: Repair | None = None


class Dialect(NamedTuple):
    """How a file separates and escapes its cells, and how well that fits its first rows."""

    delimiter: str
    escape: str | None
    spaced: bool
    """A space follows each delimiter."""
    agreeing: int
    """Rows of the sample with as many cells as the header."""
    others: int
    names: tuple[str, ...]

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            escapechar=self.escape,
            doublequote=self.escape is None,
            skipinitialspace=self.spaced,
            strict=True,
        )


class _TooLarge(Exception):
    """A row is longer than MAX_ROW_BYTES."""


def is_separated(path: AnyFile, head: bytes) -> bool:
    """Whether a file that is not JSON is CSV or TSV: by its name, else if its first rows all have the same columns."""
    if (kind := kind_of(path)) in (".csv", ".tsv"):
        return True
    if kind or b"\x00" in head or b"\n" not in head:
        return False
    dialect = _dialect(head)
    names = dialect.names
    return (
        1 < len(names) == len(set(names))
        and all(0 < len(name.strip()) <= _LONGEST_NAME and "{" not in name for name in names)
        and dialect.agreeing > 0
        and dialect.others == 0
    )


def separated_rows(path: AnyFile, stream: BinaryIO, advanced: Callable[[], None]) -> Iterator[SeparatedRow]:
    """Yield the rows after the header. Raises DataError if there is no header."""
    head: bytes = stream.peek(CHUNK)  # type: ignore[attr-defined] (a BufferedReader)
    if b"\n" not in head and b"\r" in head.strip():
        raise DataError(f"{path}: its lines end with a carriage return alone. Save it as CSV UTF-8 again.")
    csv.field_size_limit(MAX_ROW_BYTES)
    dialect = _dialect(head)
    lines = _Lines(stream)
    reader, names = dialect.reader(lines), None
    while True:
        lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except (csv.Error, _TooLarge) as error:
            line = lines.skip_first()
            too_large = isinstance(error, _TooLarge)
            problem = f"more than {MAX_ROW_BYTES} bytes in one row" if too_large else f"not a row of CSV: {error}"
            yield SeparatedRow(line, None, f"{problem}; is a quote in this row never closed?", too_large)
            continue
        if names is None:
            if cells and not (len(cells) <= 2 and _SEPARATOR_LINE.fullmatch("".join(lines.taken))):
                names = column_names(cells)
        elif any(cells):
            yield _row(lines, names, cells)
        if lines.number % _ROWS_PER_PROGRESS == 0:
            advanced()
    advanced()


def _row(lines: "_Lines", names: Sequence[str], cells: list[str]) -> SeparatedRow:
    if len(cells) != len(names) and (len(cells) < len(names) or any(cells[len(names) :])):
        return SeparatedRow(lines.first, None, f"{len(cells)} cells in this row, {len(names)} in the header")
    return SeparatedRow(
        lines.first, {name: cell or None for name, cell in zip(names, cells, strict=False)}, repair=lines.repair
    )


def column_names(header: Sequence[str]) -> list[str]:
    """The names of the columns. One that appears twice gets a number each time: which is meant, nobody can tell."""
    names = [name.strip().removeprefix(BOM) or f"column {number}" for number, name in enumerate(header, 1)]
    if len(set(names)) == len(names):
        return names
    numbered, taken = [], set(names)
    for place, name in enumerate(names):
        if names.count(name) > 1:
            number = names[: place + 1].count(name)
            while f"{name} ({number})" in taken:
                number += 1
            name = f"{name} ({number})"
            taken.add(name)
        numbered.append(name)
    return numbered


def _dialect(head: bytes) -> Dialect:
    """The delimiter and the escape under which the most rows of the sample have as many cells as the header."""
    text = decoded(head)[0].removeprefix(BOM)
    if named := _SEPARATOR_LINE.match(text):
        text = text[named.end() :]
    lines = text.splitlines(keepends=True)
    if len(head) >= CHUNK and len(lines) > 1:
        lines = lines[:-1]  # cut
    escapes = (None, "\\") if '\\"' in text else (None,)
    candidates = []
    for delimiter, escape in itertools.product(named.group(1) if named else _DELIMITERS, escapes):
        candidate = _tried(Dialect(delimiter, escape, False, 0, 0, ()), lines)
        if candidate.names[1:] and all(name.startswith(" ") for name in candidate.names[1:]):
            candidate = _tried(candidate._replace(spaced=True), lines)
        candidates.append(candidate)
    return max(candidates, key=lambda tried: (len(tried.names) > 1, tried.agreeing - tried.others, len(tried.names)))


def _tried(dialect: Dialect, lines: list[str]) -> Dialect:
    """The dialect with the names in the header, and how many rows of the sample agree with it."""
    reader, names, agreeing, others = dialect.reader(iter(lines)), None, 0, 0
    while agreeing + others < _SAMPLE_ROWS:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error:
            others += 1
            continue
        if names is None and cells:
            names = tuple(cells)
        elif any(cells):
            agreeing, others = agreeing + (len(cells) == len(names or ())), others + (len(cells) != len(names or ()))
    return dialect._replace(agreeing=agreeing, others=others, names=names or ())


_Line = tuple[str, Repair | None, bool]
"""Its text, how it was repaired, and whether it is longer than MAX_ROW_BYTES (the text is then left out)."""


class _Lines:
    """The lines of a stream as text. Those of the row that is read are kept, so that a broken one can be cut again."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._again: list[_Line] = []  # lines to give once more; the next one is the last
        self._kept: list[_Line] = []
        self._size = 0
        self.number = 0  # of the line that was given last
        self.first = 1  # of the row

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._read()
        self.number += 1
        self._kept.append(line)
        text, _, too_large = line
        self._size += len(text)
        if too_large or self._size > MAX_ROW_BYTES:
            raise _TooLarge
        return text

    @property
    def taken(self) -> list[str]:
        return [text for text, _, _ in self._kept]

    @property
    def repair(self) -> Repair | None:
        return next((repair for _, repair, _ in self._kept if repair), None)

    def begin_row(self) -> None:
        self._kept.clear()
        self._size, self.first = 0, self.number + 1

    def skip_first(self) -> int:
        """Give the lines of the row again, without its first. Returns the number of that."""
        self._again += self._kept[:0:-1]
        self.number = self.first
        return self.first

    def _read(self) -> _Line:
        raw = self._stream.readline(MAX_ROW_BYTES + 1)
        if not raw:
            raise StopIteration
        if len(raw) > MAX_ROW_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = self._stream.readline(CHUNK)
            return "", None, True
        text, repair = decoded(raw)
        return (text.removeprefix(BOM) if self.number == 0 else text), repair, False
