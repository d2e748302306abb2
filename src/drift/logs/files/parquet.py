"""Parquet as a stream of plain values, with lists, structs and maps in them as deep as they go."""

import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from drift.errors import DataError

_BATCH = 64


class Read(NamedTuple):
    """A row's value, or what is wrong with it."""

    value: dict[str, Any] | None
    problem: str | None


def parquet_values(name: str, stream: BinaryIO) -> Iterator[Read]:
    """Rows in their order. Raises DataError if the file is damaged."""
    try:
        with _seekable(stream) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            # Moderation scores are most of the bytes of the public sets, and nothing reads them.
            columns = [name for name in file.schema_arrow.names if not name.endswith("_moderation")]
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns, use_threads=False):
                yield from _values(batch)
    except (pa.ArrowException, OSError) as error:
        problem = (str(error).splitlines() or ["unreadable"])[0]
        raise DataError(f"{name}: damaged Parquet: {problem}. Get the file again, or leave it out.") from None


def _seekable(stream: BinaryIO) -> BinaryIO:
    """Parquet is read from its end: what comes packed or through a pipe goes to a file without a name first."""
    if stream.seekable():
        stream.seek(0)
        return stream
    whole = tempfile.TemporaryFile()  # noqa: SIM115 (whoever reads it closes it)
    shutil.copyfileobj(stream, whole)
    whole.seek(0)
    return whole


def _values(batch: pa.RecordBatch) -> Iterator[Read]:
    """One at a time where a batch holds a value that Python has no object for (a year beyond 9999)."""
    try:
        batch = batch.cast(pa.schema([field.with_type(_plain(field.type)) for field in batch.schema]), safe=False)
        yield from (Read(value, None) for value in batch.to_pylist())
        return
    except (ValueError, OverflowError, pa.ArrowException):
        pass
    for number in range(batch.num_rows):
        try:
            (value,) = batch.slice(number, 1).to_pylist()
        except (ValueError, OverflowError, pa.ArrowException) as error:
            yield Read(None, str(error).splitlines()[0])
        else:
            yield Read(value, None)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Python's own times have no nanoseconds."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    return kind
