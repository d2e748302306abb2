"""Read Parquet as a stream of plain Python values: lists, structs and maps at any depth."""

import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from drift.errors import DataError

_ROWS_PER_BATCH = 64


class ParquetRow(NamedTuple):
    """The value of a row, or its problem."""

    value: dict[str, Any] | None
    problem: str | None


def parquet_values(name: str, stream: BinaryIO) -> Iterator[ParquetRow]:
    """Yield the rows in order. Raises DataError if the file is damaged."""
    try:
        with _seekable(stream) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            # In public data sets most bytes are moderation scores, and nothing reads them.
            columns = [name for name in file.schema_arrow.names if not name.endswith("_moderation")]
            for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=columns, use_threads=False):
                yield from _values(batch)
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
