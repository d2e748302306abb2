"""Read Parquet as a stream of plain Python values: lists, structs and maps at any depth."""

import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from drift.errors import DataError
from drift.logs.files.opening import plain_value

_ROWS_PER_BATCH = 64
_LEFT_OUT = ["(scores that are not read)"]
"""Stands in a row for scores of moderation, so that they are counted as unread."""


class ParquetRow(NamedTuple):
    """The value of a row, or its problem."""

    value: dict[str, Any] | None
    problem: str | None


def parquet_values(name: str, stream: BinaryIO) -> Iterator[ParquetRow]:
    """Yield the rows in order. Raises DataError if the file is damaged."""
    try:
        with _seekable(stream) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            # In public data sets most bytes are moderation scores, and nothing reads them.
            scores = {
                field.name: _LEFT_OUT
                for field in file.schema_arrow
                if field.name.endswith("_moderation") and pa.types.is_nested(field.type)
            }
            columns = [name for name in file.schema_arrow.names if name not in scores]
            odd = [field.name for field in file.schema_arrow if field.name not in scores and _is_odd(field.type)]
            for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=columns, use_threads=False):
                for row in _values(batch):
                    if row.value is not None:
                        row.value.update({name: plain_value(row.value[name]) for name in odd}, **scores)
                    yield row
    except (pa.ArrowException, OSError) as error:
        problem = (str(error).splitlines() or ["unreadable"])[0]
        raise DataError(f"{name}: the Parquet file is damaged: {problem}. Get it again, or leave it out.") from None


def _seekable(stream: BinaryIO) -> BinaryIO:
    """Parquet is read from its end: a packed file or a pipe is copied to an unnamed temporary file first."""
    if stream.seekable():
        stream.seek(0)
        return stream
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


def _values(batch: pa.RecordBatch) -> Iterator[ParquetRow]:
    """The rows of a batch, converted one by one if the batch holds a value that Python cannot (a year beyond 9999)."""
    try:
        batch = batch.cast(pa.schema([field.with_type(_plain(field.type)) for field in batch.schema]), safe=False)
        yield from (ParquetRow(value, None) for value in batch.to_pylist())
        return
    except (ValueError, OverflowError, pa.ArrowException):
        pass
    for number in range(batch.num_rows):
        try:
            (value,) = batch.slice(number, 1).to_pylist()
        except (ValueError, OverflowError, pa.ArrowException) as error:
            yield ParquetRow(None, str(error).splitlines()[0])
        else:
            yield ParquetRow(value, None)


def _is_odd(kind: pa.DataType) -> bool:
    """Whether Python has values of this type that JSON does not have: decimal numbers, dates, UUIDs. Times are read."""
    types = pa.types
    if types.is_decimal(kind) or types.is_date(kind) or types.is_time(kind) or types.is_duration(kind):
        return True
    inner = (kind.value_type,) if types.is_dictionary(kind) else (kind.field(i).type for i in range(kind.num_fields))
    inner = (kind.key_type, kind.item_type) if types.is_map(kind) else inner
    return isinstance(kind, pa.BaseExtensionType) or any(map(_is_odd, inner))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with microseconds in place of nanoseconds, which Python's datetime does not have."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    return kind
