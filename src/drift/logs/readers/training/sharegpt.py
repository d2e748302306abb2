"""ShareGPT: `{id, conversations: [{from, value}]}`. Many begin with the assistant, because their beginning was cut."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import IN_METADATA, WHO, one_per_row, who
from drift.logs.draft import ConversationDraft, messages_of
from drift.logs.files.rows import LogRow, Reject
from drift.logs.readers.training.messages import has_messages
from drift.logs.unread import BESIDE, MESSAGE, keys

KEYS = {
    **keys(" ".join(WHO), metadata=keys(" ".join(IN_METADATA)), conversations=MESSAGE),
    **BESIDE,
}


def recognises(row: Mapping[str, Any]) -> bool:
    return has_messages(row, "conversations")


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, _draft)


def _draft(row: LogRow) -> ConversationDraft:
    return ConversationDraft(at=row.at, messages=messages_of(row.value.get("conversations")), **who(row.value))
