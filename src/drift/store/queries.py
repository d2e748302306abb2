"""Queries over the Parquet files of a store: the longer ones, how one is limited to a range of ids, and how it runs."""

import atexit
import itertools
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from drift.disk import open_tables
from drift.errors import DataError, DriftError, disk_trouble
from drift.store.rows import IdRange

MEMORY_LIMIT = "400MB"
_idle: "dict[tuple[int, str], list[duckdb.DuckDBPyConnection]]" = {}
_SCAN = re.compile(r"read_parquet\(\$files[^)]*\)")

AS_INGESTED = "SELECT * FROM read_parquet($files)"
COUNT = "SELECT count(*) AS n FROM read_parquet($files)"
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


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """The size of a store. `labels`: winning labels by verdict; `splits`: conversations by split. `outdated_reviews`:
    of words that have changed since, so they are no labels."""

    conversations: int = 0
    messages: int = 0
    ratings: int = 0
    quarantined: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    outdated_reviews: int = 0


def of_range(query: str, ids: IdRange, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The query over the rows of $files whose ids are in this range, and its parameters."""
    first, end = ids
    within = "conversation_id >= $first_id" + ("" if end is None else " AND conversation_id < $end_id")
    bounds = {"first_id": first} if end is None else {"first_id": first, "end_id": end}
    return _SCAN.sub(rf"(SELECT * FROM \g<0> WHERE {within})", query), {**values, **bounds}


def with_consent(query: str, consent: Mapping[str, str], conversations: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The query over those rows of $files whose tags have these values, and its further parameters.

    `conversations`: of files of labels, the files with the tags of what the labels are about; else none.
    """
    if not consent:
        return query, {}
    names = [(f"consent_{place}", f"consented_{place}") for place in range(len(consent))]
    has_all = " AND ".join(f"list_contains(map_extract(tags, ${name}), ${value})" for name, value in names)
    values: dict[str, Any] = dict(zip(itertools.chain(*names), itertools.chain(*consent.items()), strict=True))
    if conversations:
        ids = f"SELECT conversation_id FROM read_parquet($consenting) WHERE {has_all}"
        has_all, values["consenting"] = f"conversation_id IN ({ids})", list(conversations)
    return _SCAN.sub(rf"(SELECT * FROM \g<0> WHERE {has_all})", query), values


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
