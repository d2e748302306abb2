"""Conversations and labels as rows of Parquet files: the schemas, conversion in both directions, reading, writing."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from drift.records import (
    Conversation,
    FeedbackLabel,
    Message,
    Rating,
    Reason,
    json_of,
    stable_hash,
    tool_calls_of,
)

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)

GROUP_BYTES = 2**21  # size of a Parquet row group: the memory that an open file costs while it is read
GROUP_LABELS = 10_000  # labels per row group

# Columns with few different values, and columns that queries filter by
_FEW_VALUES = [
    "source",
    "split",
    "model",
    "language",
    "label",
    "labeller",
    "labeller_version",
    "messages.list.element.role",
]
_FILTERED_BY = ["conversation_id", "split", "source_id", "user_key", "family", "last_ingested", "written"]
_MESSAGE = pa.struct(
    {
        "role": pa.string(),
        "content": pa.string(),
        "timestamp": pa.string(),
        "source_index": pa.int64(),
        "extras": pa.string(),  # JSON of what few messages have: tool calls, a call's id, a tool's name, reasoning
    }
)
_MESSAGE_FIELDS = attrgetter("role", "content", "timestamp", "source_index")
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
        "family": pa.string(),
        "tools": pa.string(),
        "of_rows": pa.bool_(),  # null: stored before it was noted
        "content_hash": pa.string(),
        # the numbers of the writes that brought the conversation and its latest change; null: before they were noted
        "first_ingested": pa.int64(),
        "last_ingested": pa.int64(),
    }
)
NUMBERS = ("first_ingested", "last_ingested")
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
    """A row of a log that cannot be used, and why. `line`, and `element` in an array, count from 1."""

    file: str
    line: int
    reason: Reason
    detail: str
    element: int | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """A conversation that nearly repeats `of`. `alike`: the share of word runs that both have."""

    conversation_id: str
    of: str
    alike: float


def conversation_of(row: dict[str, Any]) -> Conversation:
    """The record of a row; takes the row's dictionary apart. Files of earlier versions have no extras, no tools, no
    `of_rows` and no numbers."""
    del row["content_hash"]
    for name in NUMBERS:
        row.pop(name, None)
    row["messages"] = tuple(
        Message(**message) if extras is None else Message(**message, **_parsed(extras))
        for message in row["messages"]
        for extras in (message.pop("extras", None),)
    )
    row["ratings"] = tuple(Rating(**rating) for rating in row["ratings"])
    row["tags"] = dict(row["tags"])
    row["of_rows"] = row.get("of_rows") is not False  # what comes later under its id decides
    return Conversation(**row)


def _with_extras(messages: Sequence[Message]) -> list[Message]:
    """The messages that have optional fields: hardly any, so one look at each is all that most logs cost here."""
    return [m for m in messages if m.tool_calls or m.tool_call_id or m.name or m.reasoning]


def _extras(message: Message) -> str | None:
    """A message's optional fields as JSON; None if it has none."""
    extras = message.extras()
    return json_of(extras).decode() if extras else None


def _parsed(extras: str) -> dict[str, Any]:
    """The inverse of `_extras`."""
    parsed = orjson.loads(extras)
    return {**parsed, "tool_calls": tool_calls_of(parsed.get("tool_calls", ()))}


def label_of(row: dict[str, Any]) -> FeedbackLabel:
    """The record of a row; takes the row's dictionary apart. Files of earlier versions have no rubric."""
    del row["content_hash"], row["written"]
    return FeedbackLabel(**{**row, "rubric": tuple(map(tuple, row.get("rubric") or ()))})


def conversation_batch(conversations: Sequence[Conversation]) -> pa.RecordBatch:
    unnumbered = dict.fromkeys(NUMBERS, [None] * len(conversations))
    return _batch(conversations, CONVERSATION, content_hash=list(map(content_hash, conversations)), **unnumbered)


def content_hash(conversation: Conversation) -> str:
    """Hash of all but the user and `of_rows`: user keys hold the store's salt, and equal logs must hash alike in every
    store."""
    messages = conversation.messages
    rare = [message.extras() for message in messages] if _with_extras(messages) else ()
    return stable_hash(
        conversation.conversation_id,
        conversation.source,
        conversation.source_id,
        list(map(_MESSAGE_FIELDS, messages)),
        conversation.split,
        conversation.model,
        conversation.language,
        conversation.started_at,
        conversation.ratings,
        sorted(conversation.tags.items()),
        # only where there are any: the hashes of earlier versions stay
        *((rare,) if rare else ()),
        *((conversation.tools,) if conversation.tools else ()),
    )


def _extras_column(messages: Sequence[Message]) -> list[str | None]:
    return list(map(_extras, messages)) if _with_extras(messages) else [None] * len(messages)


_VALUES = {"extras": _extras_column}
"""Columns of nested records that are not fields of them, by the function of all records."""


def _batch(records: Sequence[Any], schema: pa.Schema, **more: Sequence[Any]) -> pa.RecordBatch:
    """Records as columns. `more`: columns that are not fields of the records."""
    columns = [
        _column(more.get(column.name) or list(map(attrgetter(column.name), records)), column.type) for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Lists of records become one column per field, which is many times faster than going through dictionaries."""
    if pa.types.is_map(kind):
        return pa.array([sorted(entry.items()) if isinstance(entry, dict) else entry for entry in values], kind)
    if not pa.types.is_list(kind):
        return pa.array(values, kind)
    inner = list(itertools.chain.from_iterable(values))
    parts = [
        _column(
            _VALUES[field.name](inner) if field.name in _VALUES else [*map(attrgetter(field.name), inner)], field.type
        )
        for field in kind.value_type
    ]
    ends = pa.array(itertools.accumulate(map(len, values), initial=0), pa.int32())
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(parts, fields=list(kind.value_type)), type=kind)


def joined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """All batches of conversations as one table."""
    return pa.Table.from_batches(batches, CONVERSATION).combine_chunks()


def with_numbers(rows: pa.Table, first: Sequence[int | None], last: Sequence[int | None]) -> pa.Table:
    """The rows with these numbers of their first and of their latest ingestion."""
    for name, numbers in zip(NUMBERS, (first, last), strict=True):
        rows = rows.set_column(
            CONVERSATION.get_field_index(name), CONVERSATION.field(name), pa.array(numbers, pa.int64())
        )
    return rows


def has_numbers(path: Path) -> bool:
    """False for a file of an earlier version, which did not number its ingestions, and for one that is damaged: the
    query that reads it says so."""
    try:
        return NUMBERS[-1] in pq.read_schema(path).names
    except (OSError, pa.ArrowInvalid):
        return False


def slices(rows: Rows, size: int) -> Iterator[Rows]:
    """Cut rows into slices of about `size` bytes."""
    step = max(len(rows) * size // max(rows.nbytes, 1), 1)
    return (rows.slice(start, step) for start in range(0, len(rows), step))


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer with our compression and statistics."""
    # Snappy takes half the time of zstd, for files that are 1.5 times as large, and every stage reads it faster.
    columns: Any = {
        "use_dictionary": _FEW_VALUES,
        "write_statistics": _FILTERED_BY,
    }  # lists work, whatever the stubs say
    return pq.ParquetWriter(path, schema, compression="snappy", **columns)


def write_conversations(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write rows of CONVERSATION in groups of bounded size."""
    with parquet_writer(path, CONVERSATION) as out:
        for group in (group for table in tables for group in slices(table, GROUP_BYTES)):
            out.write_table(group)


def write_labels(path: Path, labels: Iterable[FeedbackLabel], first: int) -> None:
    """Write labels, numbered in this order from `first` on (the column `written`)."""
    stream = iter(labels)
    with parquet_writer(path, LABEL) as out:
        while group := list(itertools.islice(stream, GROUP_LABELS)):
            hashes = list(map(stable_hash, group))
            out.write_batch(_batch(group, LABEL, content_hash=hashes, written=range(first, first + len(group))))
            first += len(group)


def write_label_rows(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write rows of labels from other files; returns how many."""
    count = 0
    with parquet_writer(path, LABEL) as out:
        for batch in batches:
            out.write_batch(batch.select(LABEL.names).cast(LABEL))
            count += len(batch)
    return count


IdRange = tuple[str, str | None]
"""Ids from the first on and before the second; None: to the end."""
ALL_IDS: IdRange = ("", None)


def file_batches(
    path: Path, columns: Sequence[str] = CONVERSATION.names, ids: IdRange = ALL_IDS
) -> Iterator[pa.RecordBatch]:
    """Yield the conversations of one file, in one range of ids. What files of earlier versions do not have (`family`,
    `tools`, `of_rows`, the `extras` of messages, the numbers of ingestions) is null."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        groups = [group for group in range(file.num_row_groups) if _may_hold(file.metadata.row_group(group), ids)]
        present = [name for name in columns if name in file.schema_arrow.names]
        wanted = pa.schema([CONVERSATION.field(name) for name in columns])
        for batch in file.iter_batches(batch_size=256, row_groups=groups, columns=present, use_threads=False):
            for name in columns if len(present) < len(columns) else ():
                if name not in present:
                    batch = batch.append_column(name, pa.nulls(len(batch), CONVERSATION.field(name).type))
            yield _within(batch.select(columns).cast(wanted), ids)


def _may_hold(group: Any, ids: IdRange) -> bool:
    """False if the statistics of a row group say that it holds no conversation of the range."""
    columns = (group.column(number) for number in range(group.num_columns))
    known = next((c.statistics for c in columns if c.path_in_schema == "conversation_id"), None)
    if known is None or not known.has_min_max:
        return True
    first, end = ids
    return known.max >= first and (end is None or known.min < end)


def _within(batch: pa.RecordBatch, ids: IdRange) -> pa.RecordBatch:
    if ids == ALL_IDS:
        return batch
    first, end = ids
    of_range = pc.field("conversation_id") >= first
    return batch.filter(of_range if end is None else of_range & (pc.field("conversation_id") < end))


def file_bytes(path: Path) -> int:
    """The size of a file's rows without compression."""
    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
