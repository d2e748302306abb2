"""Rows turned into drafts, row by row: what all readers share, with refused rows and consent tags."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from drift.logs.draft import (
    ConversationDraft,
    Evidence,
    as_cut,
    is_cut,
    name_of,
    structured,
    tags_of_all,
    text_of,
    time_of,
    tools_of,
)
from drift.logs.files.rows import LogRow, Reject, Unusable, encodable
from drift.logs.traces.texts import SESSIONS, USERS, first_name
from drift.logs.values import FINISHES
from drift.records import Message, Reason

Outcome = ConversationDraft | Evidence | Reject
"""What a reader makes of a row, or of a part of it."""

_SYSTEM = ("system", "system_prompt", "system_message")
_TOOLS = ("tools", "functions")
_MEDIA = {
    **dict.fromkeys(("images", "image"), "image"),
    **dict.fromkeys(("videos", "video"), "video"),
    **dict.fromkeys(("audios", "audio"), "audio"),
}
_MESSAGES = ("messages", "conversations", "conversation")
_BESIDE = frozenset((*_SYSTEM, *_TOOLS, *_MEDIA, *FINISHES))
_WHO = {
    "source_id": ("id",),
    "chat_id": SESSIONS,
    "user": ("user", *USERS),
    "model": ("model", "model_name", "modelId"),
    "language": ("language",),
    "started_at": ("timestamp", "created_at", "createdAt", "created", "create_time"),
}
"""By the field of a draft, the usual names of what says whose chat a row holds."""
WHO = tuple(name for names in _WHO.values() for name in names)
"""The keys of `who`; those of `metadata` that it reads."""
IN_METADATA = (*_WHO["chat_id"], *_WHO["user"], *_WHO["model"])
_CONSENT = re.compile("consent|licen[cs]e|opt_?(?:in|out)|permission|allow_?train", re.IGNORECASE)


def one_per_row(
    rows: Iterable[LogRow | Reject], convert: Callable[[LogRow], ConversationDraft]
) -> Iterator[ConversationDraft | Reject]:
    """For formats with one conversation per row: yield the draft of each row, or the reason why it has none."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        try:
            yield with_consent(with_beside(convert(row), row.value), row)
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail)


def many_per_row(rows: Iterable[LogRow | Reject], convert: Callable[[LogRow], Iterable[Outcome]]) -> Iterator[Outcome]:
    """For formats whose rows hold several conversations, calls or judgements: only the first one counts the row."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        is_counted = False
        try:
            for outcome in convert(row):
                tagged = with_consent(outcome, row)
                yield replace(tagged, rows=0) if is_counted else tagged
                is_counted = True
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail, rows=0 if is_counted else 1)
            continue
        if not is_counted:
            yield Reject(row.at, Reason.NO_MESSAGES, "no conversation in this row")


def who(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a draft that say whose chat a row holds: its id, the chat of which it may be a part, the user, the
    model, the language and the time."""
    fields: dict[str, Any] = {}
    for field, name in _who_names(tuple(row)):
        if fields.get(field) is None:
            fields[field] = (time_of if field == "started_at" else name_of)(row[name])
    if isinstance(metadata := structured(row.get("metadata")), Mapping):
        for field in ("chat_id", "user", "model"):
            if fields.get(field) is None:
                fields[field] = first_name(metadata, names=_WHO[field])
    return fields


def with_beside(draft: ConversationDraft, *places: Any) -> ConversationDraft:
    """The draft with what a row or a request holds beside the messages: the system's message, the tools, images that
    the messages only have a placeholder for, and why the last reply ended. What the messages have themselves stays."""
    for place in places:
        # `dict` first: it is what nearly all are, and the question for an abstract class takes ten times as long
        if isinstance(place, (dict, Mapping)) and not _BESIDE.isdisjoint(place):
            draft = _with_system(draft, place)
            draft = _with_media(draft, place)
            draft = replace(draft, messages=tuple(as_cut(draft.messages))) if is_cut(place) else draft
            tools = next((schemas for key in _TOOLS if (schemas := tools_of(place.get(key)))), None)
            draft = draft if draft.tools or tools is None else replace(draft, tools=tools)
    return draft


def unread_beside(row: Mapping[str, Any]) -> Iterable[str]:
    """The keys of what `with_beside` leaves out: tools without schemas, and a system's message that is no text or that
    is not the one that the messages have themselves."""
    return () if _BESIDE.isdisjoint(row) else _left_out(row)


def _left_out(row: Mapping[str, Any]) -> Iterator[str]:
    for key in _SYSTEM:
        said = row.get(key)
        if said and (not isinstance(said, str | list) or _own_system(row) not in (None, said)):
            yield key
    for key in _TOOLS:
        listed = row.get(key)
        if listed and tools_of(listed) is None:
            yield key


def _own_system(row: Mapping[str, Any]) -> Any:
    """What the messages of a row have as their system's message; None if they have none."""
    entries = next((found for key in _MESSAGES if (found := structured(row.get(key)))), None)
    first = entries[0] if isinstance(entries, list) else None
    role = first.get("role", first.get("from")) if isinstance(first, Mapping) else None
    is_system = isinstance(role, str) and role.lower() in ("system", "developer")
    return (first.get("content", first.get("value")) or "") if is_system and isinstance(first, Mapping) else None


def _with_system(draft: ConversationDraft, place: Mapping[str, Any]) -> ConversationDraft:
    """The system's message stands before the others, so the indices of replies move by one."""
    content = next((place[key] for key in _SYSTEM if isinstance(place.get(key), str | list) and place[key]), None)
    if content is None or draft.messages[0].role == "system":
        return draft
    try:
        text = text_of(content, "the system's message")
    except Unusable:
        return draft
    if not text.strip():
        return draft
    return replace(
        draft,
        messages=(Message("system", text), *draft.messages),
        ratings=tuple(replace(rating, reply_index=rating.reply_index + 1) for rating in draft.ratings),
        identity_until=None if draft.identity_until is None else draft.identity_until + 1,
    )


def _with_media(draft: ConversationDraft, place: Mapping[str, Any]) -> ConversationDraft:
    """Datasets write `<image>` where an image belongs, or nothing: then it belongs to the first request."""
    messages = list(draft.messages)
    for key, kind in _MEDIA.items():
        if not (isinstance(place.get(key), str | list | Mapping) and place[key]):
            continue
        holders = [i for i, m in enumerate(messages) if f"<{kind}>" in m.content]
        for i in holders:
            text = messages[i].content.replace(f"<{kind}>", f"[{kind}]")
            messages[i] = replace(messages[i], content=text, has_media=True)
        first = next((i for i, m in enumerate(messages) if m.role == "user"), None)
        if not holders and first is not None:
            text = "\n".join(filter(None, (messages[first].content, f"[{kind}]")))
            messages[first] = replace(messages[first], content=text, has_media=True)
    return replace(draft, messages=tuple(messages))


def with_consent(outcome: Any, row: LogRow) -> Any:
    """A draft with the consent and licence fields of its row as tags; other outcomes unchanged."""
    tags = consent_tags(row.value) if type(outcome) is ConversationDraft else None
    return replace(outcome, tags=tags_of_all((tags, outcome.tags))) if tags else outcome


def consent_tags(row: Mapping[str, Any]) -> dict[str, str]:
    """The consent and licence fields of a row and of its `metadata`: strings, numbers and truth values."""
    if "metadata" in row or "extra" in row:
        return tags_of_all((_consents_in(row), _consents_in(_metadata(row))))
    return _consents_in(row)


def consents_in(*places: Any) -> dict[str, str]:
    """The consent and licence fields of objects beside a row: a request, a response, what a tool calls its metadata."""
    parsed = map(structured, places)
    return tags_of_all(consent_tags(place) for place in parsed if isinstance(place, Mapping))


def _consents_in(place: Mapping[str, Any]) -> dict[str, str]:
    return {
        encodable(name): encodable(value) if isinstance(value, str) else str(value).lower()
        for name in _consent_names(tuple(place))
        if isinstance(value := place[name], str | bool | int | float)
    }


def _metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = structured(row.get("extra"))  # where LangSmith keeps its metadata
    inner = structured((extra if isinstance(extra, Mapping) and "metadata" not in row else row).get("metadata"))
    return inner if isinstance(inner, Mapping) else {}


def is_consent(name: str) -> bool:
    """Whether a key names a consent or a licence: these are read in every format."""
    return _CONSENT.search(name) is not None


@lru_cache(16)  # the rows of one log have few different sets of keys
def _who_names(names: tuple[Any, ...]) -> list[tuple[str, str]]:
    """Of the keys of a row: the fields that they may fill, the most usual name of each field first."""
    return [(field, name) for field, usual in _WHO.items() for name in dict.fromkeys(usual) if name in names]


@lru_cache(16)
def _consent_names(names: tuple[Any, ...]) -> list[str]:
    return [name for name in names if isinstance(name, str) and is_consent(name)]
