"""ShareGPT: `{id, conversations: [{from, value}]}`. Many begin with the assistant, because their beginning was cut."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import one_per_row
from drift.logs.draft import ConversationDraft, messages_of, name_of
from drift.logs.files.rows import LogRow, Reject
from drift.logs.readers.training.messages import has_messages
from drift.logs.unread import BESIDE, MESSAGE, keys

KEYS = {**keys("id model", conversations=MESSAGE), **BESIDE}


def recognises(row: Mapping[str, Any]) -> bool:
    return has_messages(row, "conversations")


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, _draft)


def _draft(row: LogRow) -> ConversationDraft:
    return ConversationDraft(
        at=row.at,
        messages=messages_of(row.value.get("conversations")),
        source_id=name_of(row.value.get("id")),
        model=name_of(row.value.get("model")),
    )
