"""The tombstones of a store: salted hashes of forgotten users and conversations, which ingestion refuses."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from drift.records import Conversation, read_jsonl, stable_hash
from drift.store.rows import parquet_writer


@dataclass(frozen=True, slots=True)
class Tombstone:
    """`kind`: user or conversation (or a family); `key`: a salted hash of its id. `forgotten_at`: UTC, ISO 8601."""

    kind: str
    key: str
    forgotten_at: str


@dataclass(frozen=True, slots=True)
class ForgetSummary:
    """What was removed. `known_before`: the store had a tombstone of it already."""

    conversations: int
    labels: int
    reviews: int
    quarantined: int
    known_before: bool


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The tombstones of a store, ready to be looked up."""

    salt: str
    users: frozenset[str] = frozenset()
    conversations: frozenset[str] = frozenset()

    def covers(self, conversation: Conversation) -> bool:
        """True if the conversation, its family or its user was forgotten."""
        family = conversation.family is not None and self.holds(conversation.family)
        return family or conversation.user_key in self.users or self.holds(conversation.conversation_id)

    def holds(self, name: str) -> bool:
        """True if this conversation_id or family was forgotten."""
        return bool(self.conversations) and self.key(name) in self.conversations

    def key(self, conversation_id: str) -> str:
        return stable_hash(self.salt, "conversation", conversation_id)


def read_forgotten(file: Path, salt: str) -> Forgotten:
    """Raises DataError naming the line if the file is damaged."""
    if not file.exists():
        return Forgotten(salt)
    stones = list(read_jsonl(file, Tombstone))
    return Forgotten(
        salt,
        frozenset(stone.key for stone in stones if stone.kind == "user"),
        frozenset(stone.key for stone in stones if stone.kind == "conversation"),
    )


def copy_without(source: Path, target: Path, ids: Iterable[str]) -> int:
    """Copy a Parquet file without the rows of these conversations, in flat memory; returns how many were left out."""
    unwanted, removed = pa.array(list(ids), pa.string()), 0
    with (
        pq.ParquetFile(source, pre_buffer=False) as file,
        parquet_writer(target, file.schema_arrow) as out,
    ):
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, use_threads=False)
            kept = rows.filter(~pc.field("conversation_id").isin(unwanted))
            removed += len(rows) - len(kept)
            if len(kept):
                out.write_table(kept)
    return removed
