"""LMSYS-Chat-1M (huggingface.co/datasets/lmsys/lmsys-chat-1m): conversations of Chatbot Arena, without user ids."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import one_per_row
from drift.logs.draft import ConversationDraft, has, messages_of, name_of, truth_of
from drift.logs.files.rows import LogRow, Reject
from drift.logs.unread import BESIDE, MESSAGE, keys

KEYS = {**keys("conversation_id model language redacted", conversation=MESSAGE), **BESIDE}


def recognises(row: Mapping[str, Any]) -> bool:
    return has(row, "conversation_id", "conversation")


def read(rows: Iterable[LogRow | Reject]) -> Iterator[ConversationDraft | Reject]:
    return one_per_row(rows, _draft)


def _draft(row: LogRow) -> ConversationDraft:
    return ConversationDraft(
        at=row.at,
        messages=messages_of(row.value.get("conversation")),
        source_id=name_of(row.value.get("conversation_id")),
        model=name_of(row.value.get("model")),
        language=name_of(row.value.get("language")),
        tags={"redacted": "true"} if truth_of(row.value.get("redacted")) else {},
    )
