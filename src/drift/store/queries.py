"""Queries over the Parquet files of a store: the longer ones, how one is limited to a range of ids, and how it runs."""

import atexit
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from drift.disk import open_tables
from drift.errors import DataError, DriftError, disk_trouble

MEMORY_LIMIT = "400MB"
_idle: "dict[tuple[int, str], list[duckdb.DuckDBPyConnection]]" = {}
_SCAN = re.compile(r"read_parquet\(\$files[^)]*\)")

# Window functions run over the narrow keys only: over complete rows they would exceed the memory limit.
# A rating in the middle wins over no other verdict: in many logs 0 stands where nobody rated. An abstention is none.
WINNERS = """
    SELECT * FROM read_parquet($files, union_by_name = true) SEMI JOIN (
        SELECT written FROM (
            SELECT written, conversation_id, reply_index, label, labeller,
                label = 'NEUTRAL' AND labeller IN ('rating', 'source') AS middle,
                bool_or(middle) OVER (PARTITION BY conversation_id, reply_index) AS has_middle
            FROM read_parquet($files, union_by_name = true)
        ) QUALIFY row_number() OVER (
            PARTITION BY conversation_id, reply_index
            ORDER BY has_middle AND label = 'ABSTAIN', middle,
                list_position(['review', 'rating', 'source', 'judge', 'embedded'], labeller), written DESC) = 1
    ) USING (written) ORDER BY conversation_id, reply_index"""
NEWEST = """
    SELECT * FROM read_parquet($files, union_by_name = true) SEMI JOIN (
        SELECT max(written) AS written FROM read_parquet($files, union_by_name = true)
        WHERE labeller = $labeller GROUP BY conversation_id, reply_index
    ) USING (written) ORDER BY conversation_id, reply_index"""
GROUPS_OF_USERS = """
    SELECT conversation_id || ' ' || first AS content_hash FROM (
        SELECT conversation_id, min(conversation_id) OVER (PARTITION BY user_key) AS first
        FROM read_parquet($files) WHERE user_key IS NOT NULL) ORDER BY conversation_id"""
UNKNOWN_LABELS = """
    WITH keys AS (
        SELECT written, content_hash, max(written) OVER labeller_of_reply AS newest,
            arg_max(content_hash, written) FILTER (written < $first) OVER labeller_of_reply AS stored
        FROM read_parquet($files, union_by_name = true)
        WINDOW labeller_of_reply AS (PARTITION BY conversation_id, reply_index, labeller))
    SELECT * FROM read_parquet($staged, union_by_name = true) SEMI JOIN (
        SELECT written FROM keys WHERE written = newest AND content_hash IS DISTINCT FROM stored
    ) USING (written) ORDER BY written"""


def of_range(query: str, end: str | None) -> str:
    """The query over the rows of $files from $first_id on and, unless `end` is None, before $end_id."""
    ids = "conversation_id >= $first_id" + ("" if end is None else " AND conversation_id < $end_id")
    return _SCAN.sub(rf"(SELECT * FROM \g<0> WHERE {ids})", query)


def stream(
    store: Path, query: str, files: Sequence[str], size: int, values: Mapping[str, Any]
) -> Iterator[pa.RecordBatch]:
    """The rows of a query over these files, `size` at a time. Raises DataError or DriftError, which names the store."""
    if not files:
        return
    with tempfile.TemporaryDirectory(prefix="drift-duckdb-") as spill, _tables(spill) as connection:
        try:
            yield from connection.sql(query, params={"files": files, **values}).to_arrow_reader(size)
        except duckdb.Error as error:
            raise disk_trouble(error) or _unreadable(store, error, spill) from None


@contextmanager
def _tables(spill: str) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A DuckDB of this process that no other query is using. `spill`: the folder for what does not fit into memory.

    To open one takes some 30 ms, more than most queries, so it is kept for the next query. One whose query failed or
    was left before its last row is closed instead: it may still hold that query. Queries that run at once have one
    each, and each its own memory. A forked process opens its own.
    """
    idle = _idle.setdefault((os.getpid(), MEMORY_LIMIT), [])
    connection = idle.pop() if idle else None
    if connection is not None:
        try:
            connection.execute("SET temp_directory = '" + spill.replace("'", "''") + "'")
        except duckdb.Error:  # it has spilled before, and then it cannot leave its folder, which is gone
            connection.close()
            connection = None
    connection = connection or open_tables(MEMORY_LIMIT, spill)
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    idle.append(connection)


@atexit.register
def _close_idle() -> None:
    """Before Python takes its modules apart: a DuckDB that is open then complains on stderr."""
    for (process, _), idle in _idle.items():
        for connection in idle if process == os.getpid() else ():
            connection.close()
    _idle.clear()


def _unreadable(store: Path, error: duckdb.Error, spill: str) -> DriftError:
    """The error of a query. `spill`: the folder for what did not fit into memory."""
    problem = str(error).splitlines()[0]
    if isinstance(error, duckdb.OutOfMemoryException):
        return DriftError(
            f"{store}: {problem}. A query may use {MEMORY_LIMIT} of memory and the free space of {Path(spill).parent}: "
            "free some space there, or set the environment variable TMPDIR to a larger folder."
        )
    return DataError(f"{store}: cannot read the store: {problem}. Ingest the logs into a new store.")
