"""ShareGPT: `{id, conversations: [{from, value}]}`. Many begin with the assistant, because the share was cut."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.draft import Draft, messages_of, name_of
from drift.logs.readers.each import each
from drift.logs.rows import Reject, Row


def recognises(row: Mapping[str, Any]) -> bool:
    return "conversations" in row


def read(rows: Iterable[Row | Reject]) -> Iterator[Draft | Reject]:
    return each(rows, _draft)


def _draft(row: Row) -> Draft:
    return Draft(
        at=row.at,
        messages=messages_of(row.value.get("conversations")),
        source_id=name_of(row.value.get("id")),
        model=name_of(row.value.get("model")),
    )
