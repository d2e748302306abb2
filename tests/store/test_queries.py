"""One DuckDB after the other serves the queries of a process, and never two of them at once."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drift.errors import DataError
from drift.store import queries
from drift.store.queries import stream

ROWS = "SELECT n FROM read_parquet($files) ORDER BY n"


@pytest.fixture
def opened(monkeypatch) -> list[duckdb.DuckDBPyConnection]:
    """The DuckDBs that were opened in this test, which begins without one."""
    found: list[duckdb.DuckDBPyConnection] = []
    real = queries.open_tables

    def open_tables(limit, spill):
        found.append(real(limit, spill))
        return found[-1]

    monkeypatch.setattr(queries, "_idle", {})
    monkeypatch.setattr(queries, "open_tables", open_tables)
    return found


@pytest.fixture
def rows(tmp_path):
    """`rows(query)`: the numbers 0 to 4999 of a file, as a query gives them, some 2048 at a time."""
    file = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"n": range(5000)}), file)

    def read(query: str = ROWS):
        for batch in stream(tmp_path, query, [str(file)], 2048, {}):
            yield from batch.column("n").to_pylist()

    return read


def test_queries_after_each_other_share_one(rows, opened):
    assert [sum(rows()) for _ in range(3)] == [5000 * 4999 / 2] * 3
    assert len(opened) == 1


def test_queries_at_once_have_one_each(rows, opened):
    assert all(one == other for one, other in zip(rows(), rows(), strict=True))
    assert len(opened) == 2
    assert list(rows()) == list(range(5000))
    assert len(opened) == 2


def test_a_query_that_was_left_or_failed_is_not_followed_on_the_same(rows, opened):
    left = rows()
    assert next(left) == 0
    left.close()
    with pytest.raises(duckdb.ConnectionException):
        opened[0].sql("SELECT 1")
    with pytest.raises(DataError, match="cannot read the store"):
        list(rows("SELECT nothing FROM read_parquet($files)"))
    assert list(rows()) == list(range(5000))
    assert len(opened) == 3


def test_a_file_that_was_replaced_is_read_anew(rows, opened, tmp_path):
    assert sum(rows()) > 0
    pq.write_table(pa.table({"n": [7]}), tmp_path / "numbers.parquet")
    assert list(rows()) == [7]
    assert len(opened) == 1


def test_another_process_opens_its_own(rows, opened, monkeypatch):
    assert sum(rows()) > 0
    monkeypatch.setattr(queries.os, "getpid", lambda: -1)
    assert sum(rows()) > 0
    assert len(opened) == 2


def test_one_that_has_spilled_is_not_used_again_and_leaves_nothing(rows, opened, tmp_path, monkeypatch):
    """It would go on spilling to the folder of its first query, which is gone."""
    monkeypatch.setattr(queries, "MEMORY_LIMIT", "24MB")
    monkeypatch.setattr(queries.tempfile, "tempdir", str(tmp_path / "it's here"))
    (tmp_path / "it's here").mkdir()
    large = "SELECT range AS n FROM range(1500000), read_parquet($files) WHERE n = 0 ORDER BY hash(range)"
    assert [sum(rows(query)) for query in (ROWS, large, large)] == [5000 * 4999 / 2, *[1_500_000 * 1_499_999 / 2] * 2]
    assert len(opened) == 2
    assert list((tmp_path / "it's here").iterdir()) == []
