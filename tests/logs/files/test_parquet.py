"""Parquet: values that JSON does not have (decimal numbers, dates, UUIDs, bytes), and columns that are not read."""

import uuid
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drift.config import IngestionSettings
from drift.logs.files.parquet import parquet_values
from drift.logs.ingest import IngestSummary, ingest
from drift.records import Conversation
from drift.store import Store

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
COLUMNS = {"conversation": "conv", "role": "role", "content": "body", "rating": "stars", "time": "day"}
NUMBERS = pa.decimal128(38, 0)


def uuids(*numbers: int) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=n).bytes for n in numbers], pa.binary(16)))


def ingested(tmp_path: Path, table: pa.Table, columns: Any = None) -> tuple[IngestSummary, list[Conversation]]:
    pq.write_table(table, tmp_path / "a.parquet")
    store = Store(tmp_path / "store")
    summary = ingest([tmp_path / "a.parquet"], store, settings=IngestionSettings(map=columns or {}))
    return summary, list(store.conversations())


@pytest.mark.parametrize("ids", [pa.array([Decimal(10**30)] * 2, NUMBERS), uuids(5, 5)], ids=["decimal", "uuid"])
def test_a_mapped_table_with_ids_ratings_and_times_of_a_warehouse(tmp_path, ids):
    stars = pa.array([None, Decimal("5.0")], pa.decimal128(4, 1))
    days = pa.array([date(2024, 5, 1), date(2024, 5, 2)])
    table = pa.table({"conv": ids, "role": ["user", "bot"], "body": ["hi", "yo"], "stars": stars, "day": days})
    summary, (only,) = ingested(tmp_path, table, COLUMNS)
    assert [message.content for message in only.messages] == ["hi", "yo"]
    assert (only.source_id, only.started_at) == (str(ids[0].as_py()), "2024-05-01")
    assert [rating.value for rating in only.ratings] == [1.0]
    assert not summary.repaired


@pytest.mark.parametrize("ids", [pa.array([Decimal(1), Decimal(2)], NUMBERS), uuids(1, 2)], ids=["decimal", "uuid"])
def test_chats_with_ids_of_a_warehouse_stay_two(tmp_path, ids):
    _, found = ingested(tmp_path, pa.table({"id": ids, "messages": [CHAT, CHAT]}))
    assert {chat.source_id for chat in found} == {str(one.as_py()) for one in ids}


def test_values_inside_of_others_are_plain_too(tmp_path):
    rows = [{"tags": [{"price": Decimal("1.50"), "on": date(2024, 5, 1)}], "by": [("a", Decimal(3))], "raw": b"x"}]
    kinds = {
        "tags": pa.list_(pa.struct({"price": pa.decimal128(5, 2), "on": pa.date32()})),
        "by": pa.map_(pa.string(), NUMBERS), "raw": pa.binary(),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(kinds)), tmp_path / "a.parquet")
    with (tmp_path / "a.parquet").open("rb") as file:
        (row,) = parquet_values("a", file)
    assert row.value == {"tags": [{"price": 1.5, "on": "2024-05-01"}], "by": [["a", 3]], "raw": b"x"}


def test_binary_texts_of_messages_that_are_gathered_are_texts(tmp_path):
    table = pa.table({
        "message_id": ["a", "b"], "parent_id": [None, "a"], "message_tree_id": ["a", "a"],
        "text": pa.array(["h\u00e9".encode(), b"y\xff"], pa.binary()), "role": ["prompter", "assistant"],
    })  # fmt: skip
    _, (only,) = ingested(tmp_path, table)
    assert [message.content for message in only.messages] == ["h\u00e9", "y\ufffd"]


def test_scores_of_moderation_are_counted_as_unread(tmp_path):
    scores = [[{"hate": 0.1}], [{"hate": 0.2}]]
    table = pa.table({"messages": [CHAT, CHAT], "openai_moderation": scores, "own_moderation": ["x", None]})
    summary, _ = ingested(tmp_path, table)
    assert summary.unread == {"openai_moderation": 2, "own_moderation": 1}
