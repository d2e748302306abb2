"""What a conversation and a label look like as rows of a Parquet file, and files of such rows in flat memory."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from drift.records import Conversation, FeedbackLabel, Message, Rating, Reason, stable_hash

GROUP_CHARACTERS = 2_000_000  # text of one Parquet row group: what an open file costs while it is read

# Columns with few values, and those that queries look for
_REPEATED = [
    "source",
    "split",
    "model",
    "language",
    "label",
    "labeller",
    "labeller_version",
    "messages.list.element.role",
]
_SOUGHT = ["conversation_id", "split", "source_id", "user_key", "written"]
_MESSAGE = pa.struct(
    {"role": pa.string(), "content": pa.string(), "timestamp": pa.string(), "source_index": pa.int64()}
)
_RATING = pa.struct(
    {
        "reply_index": pa.int64(),
        "kind": pa.string(),
        "value": pa.float64(),
        "comment": pa.string(),
        "preferred": pa.string(),
    }
)
CONVERSATION = pa.schema(
    {
        "conversation_id": pa.string(),
        "source": pa.string(),
        "source_id": pa.string(),
        "messages": pa.list_(_MESSAGE),
        "split": pa.string(),
        "user_key": pa.string(),
        "model": pa.string(),
        "language": pa.string(),
        "started_at": pa.string(),
        "ratings": pa.list_(_RATING),
        "tags": pa.map_(pa.string(), pa.string()),
        "content_hash": pa.string(),
    }
)
LABEL = pa.schema(
    {
        "conversation_id": pa.string(),
        "reply_index": pa.int64(),
        "user_index": pa.int64(),
        "label": pa.string(),
        "labeller": pa.string(),
        "labeller_version": pa.string(),
        "subtype": pa.string(),
        "p_dsat": pa.float64(),
        "p_sat": pa.float64(),
        "evidence": pa.string(),
        "abstain_reason": pa.string(),
        "rubric": pa.map_(pa.string(), pa.int64()),
        "content_hash": pa.string(),
        "written": pa.int64(),
    }
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row of a log that cannot be used: where it stands (`line`, and `element` of an array, count from 1) and why."""

    file: str
    line: int
    reason: Reason
    detail: str
    element: int | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """A conversation that says nearly what `of` says; `alike`: the share of word runs that they have in common."""

    conversation_id: str
    of: str
    alike: float


def conversation_of(row: dict[str, Any]) -> Conversation:
    del row["content_hash"]
    row["messages"] = tuple(Message(**message) for message in row["messages"])
    row["ratings"] = tuple(Rating(**rating) for rating in row["ratings"])
    row["tags"] = dict(row["tags"])
    return Conversation(**row)


def label_row(label: FeedbackLabel, written: int) -> dict[str, Any]:
    return {**asdict(label), "content_hash": stable_hash(label), "written": written}


def label_of(row: dict[str, Any]) -> FeedbackLabel:
    """Files of earlier versions have no rubric."""
    del row["content_hash"], row["written"]
    return FeedbackLabel(**{**row, "rubric": tuple(map(tuple, row.get("rubric") or ()))})


def extent(row: dict[str, Any]) -> tuple[int, int]:
    """What makes a version longer: more messages, or as many and more ratings (a thumb that came later)."""
    return len(row["messages"]), len(row["ratings"])


def size(row: dict[str, Any]) -> int:
    """Roughly the characters of a row; the constant stands for its other fields."""
    return 200 + sum(len(message["content"]) for message in row.get("messages", ()))


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows in groups of bounded size; returns how many there were."""
    count, group, characters = 0, [], 0
    columns: Any = {"use_dictionary": _REPEATED, "write_statistics": _SOUGHT}  # lists are taken, whatever the stubs say
    with pq.ParquetWriter(path, schema, compression="zstd", **columns) as out:
        for row in rows:
            group.append(row)
            characters += size(row)
            if characters >= GROUP_CHARACTERS:
                out.write_table(_table(group, schema))
                count, group, characters = count + len(group), [], 0
        out.write_table(_table(group, schema))
    return count + len(group)


def _table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """As `pa.Table.from_pylist` makes it, at a fifth of its time."""
    return pa.Table.from_arrays([_column([row.get(f.name) for row in rows], f.type) for f in schema], schema=schema)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type) or None in values:
        return pa.array(values, kind)
    inner = [entry for some in values for entry in some]
    parts = [_column([entry.get(f.name) for entry in inner], f.type) for f in kind.value_type]
    ends = pa.array(itertools.accumulate(map(len, values), initial=0), pa.int32())
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(parts, fields=list(kind.value_type)), type=kind)


def file_rows(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=64, use_threads=False):
            yield from batch.to_pylist()
