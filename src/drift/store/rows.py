"""What a conversation and a label look like as rows of a Parquet file, and files of such rows in flat memory."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from drift.records import Conversation, FeedbackLabel, Message, Rating, Reason, stable_hash

GROUP_CHARACTERS = 2_000_000  # text of one Parquet row group: what an open file costs while it is read

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


def conversation_row(conversation: Conversation) -> dict[str, Any]:
    row = {name: getattr(conversation, name) for name in CONVERSATION.names[:-1]}
    row["messages"] = [
        {"role": m.role, "content": m.content, "timestamp": m.timestamp, "source_index": m.source_index}
        for m in conversation.messages
    ]
    row["ratings"] = [asdict(rating) for rating in conversation.ratings]
    row["tags"] = sorted(conversation.tags.items())
    # Without the user: its key holds the store's salt, and equal logs shall have equal hashes in every store.
    row["content_hash"] = stable_hash({name: value for name, value in row.items() if name != "user_key"})
    return row


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
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        for row in rows:
            group.append(row)
            characters += size(row)
            if characters >= GROUP_CHARACTERS:
                out.write_table(pa.Table.from_pylist(group, schema=schema))
                count, group, characters = count + len(group), [], 0
        out.write_table(pa.Table.from_pylist(group, schema=schema))
    return count + len(group)


def file_rows(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=64, use_threads=False):
            yield from batch.to_pylist()
