"""Sorted runs: what is on its way into a store and does not fit into memory, a line of JSON per conversation."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from drift.records import Conversation

_BUFFER = 2**16  # of each run while they are merged: there may be hundreds


class Packed(NamedTuple):
    """A conversation as its line of a run; `body` is its JSON without the user."""

    conversation_id: str
    size: int
    head: bytes
    body: bytes


def pack(conversation: Conversation) -> Packed:
    """`size`: roughly the bytes that it holds in memory."""
    body = orjson.dumps(
        {
            "conversation_id": conversation.conversation_id,
            "source": conversation.source,
            "source_id": conversation.source_id,
            "messages": conversation.messages,
            "split": conversation.split,
            "model": conversation.model,
            "language": conversation.language,
            "started_at": conversation.started_at,
            "ratings": conversation.ratings,
            "tags": sorted(conversation.tags.items()),
        }
    )
    # Without the user: its key holds the store's salt, and equal logs shall have equal hashes in every store.
    digest = hashlib.sha256(b"[" + body + b"]").hexdigest()[:16]
    head = orjson.dumps({"user_key": conversation.user_key, "content_hash": digest})
    return Packed(conversation.conversation_id, 200 + len(body), head, body)


def unpack(head: bytes, body: bytes) -> dict[str, Any]:
    """The row of the store's Parquet file."""
    row = {**orjson.loads(body), **orjson.loads(head)}
    row["tags"] = [tuple(tag) for tag in row["tags"]]
    return row


def write_run(path: Path, packed: Sequence[Packed]) -> None:
    with path.open("wb") as out:
        for one in packed:
            out.write(b"%b\t%b\n" % (one.head, one.body))  # JSON holds neither as it is


def run_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb", buffering=_BUFFER) as lines:
        for line in lines:
            head, _, body = line.partition(b"\t")
            yield unpack(head, body)
