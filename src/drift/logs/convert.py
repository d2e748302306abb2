"""Rows turned into drafts one by one."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from drift.logs.draft import ConversationDraft, Evidence, structured
from drift.logs.files.rows import LogRow, Reject, Unusable, encodable
from drift.records import Reason

Found = ConversationDraft | Evidence | Reject

_CONSENT = re.compile("consent|licen[cs]e|opt_?(?:in|out)|permission|allow_?train", re.IGNORECASE)


def each(
    rows: Iterable[LogRow | Reject], convert: Callable[[LogRow], ConversationDraft]
) -> Iterator[ConversationDraft | Reject]:
    """Drafts of the rows that `convert` can use; the others as they were refused."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        try:
            yield with_consent(convert(row), row)
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail)


def spread(rows: Iterable[LogRow | Reject], convert: Callable[[LogRow], Iterable[Found]]) -> Iterator[Found]:
    """For formats whose rows hold several conversations, calls or judgements: the first one accounts for the row."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        found = False
        try:
            for outcome in (with_consent(found_one, row) for found_one in convert(row)):
                yield replace(outcome, rows=0) if found else outcome
                found = True
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail, rows=0 if found else 1)
            continue
        if not found:
            yield Reject(row.at, Reason.NO_MESSAGES, "nothing in this row that is a conversation")


def with_consent(found: Any, row: LogRow) -> Any:
    """The same draft with what its row says of consent and licence as tags; anything else as it is."""
    said = consent_tags(row.value) if isinstance(found, ConversationDraft) else None
    return replace(found, tags={**said, **found.tags}) if said else found


def consent_tags(row: Mapping[str, Any]) -> dict[str, str]:
    """What the source says of consent and licence, on the row or in its `metadata`: strings, numbers, truth values."""
    extra = structured(row.get("extra"))  # LangSmith's place for it
    inner = structured((extra if isinstance(extra, Mapping) and "metadata" not in row else row).get("metadata"))
    said: dict[str, str] = {}
    for place in (row, inner):
        for name in _consent_names(tuple(place)) if isinstance(place, Mapping) else ():
            if isinstance(value := place[name], str | bool | int | float):
                said[encodable(name)] = encodable(value) if isinstance(value, str) else str(value).lower()
    return said


@lru_cache(16)  # the rows of one log have few sets of keys
def _consent_names(names: tuple[Any, ...]) -> list[str]:
    return [name for name in names if isinstance(name, str) and _CONSENT.search(name)]
