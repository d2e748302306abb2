"""Flowise: messages of its API and database (`userMessage`, `apiMessage`), and the chats that its page exports.

Messages of one `chatId` are a conversation, in the order of time. A row of the table of feedback judges a message.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome
from drift.logs.draft import (
    ConversationDraft,
    Evidence,
    has_any,
    last_reply,
    messages_of,
    name_of,
    numbered,
    structured,
    time_of,
)
from drift.logs.files.rows import LogRow, Reject, Unusable, json_kind, short_form
from drift.logs.judgements import no_reply
from drift.logs.parts import json_text
from drift.logs.traces.gathering import gathered, in_time_order
from drift.logs.traces.texts import first_name
from drift.logs.traces.verdicts import dated
from drift.logs.unread import keys
from drift.records import Message, Rating, Reason

_ROLES = {"userMessage": "user", "apiMessage": "assistant"}
_CHATS = ("chatId", "sessionId")
_USERS = ("leadEmail", "email", "userId")
_THUMBS = {"THUMBS_UP": 1.0, "THUMBS_DOWN": -1.0}

_MESSAGE = keys(
    f"id role content message createdDate time {' '.join((*_CHATS, *_USERS))}",
    usedTools=keys("tool toolInput toolOutput"),
    fileUploads=keys("mime type"),
    feedback=keys("rating content"),
)
KEYS = {**_MESSAGE, **keys("messageId rating", messages=_MESSAGE)}


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_message(row) or _is_thumb(row) or _is_chat(row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return gathered(rows, group_of, _conversation, _alone)


def group_of(row: Mapping[str, Any]) -> str | None:
    return None if _is_thumb(row) or _is_chat(row) else first_name(row, names=_CHATS)


def id_of(row: Mapping[str, Any]) -> str | None:
    return name_of(row.get("id"))


def _is_message(row: Mapping[str, Any]) -> bool:
    role = row.get("role")
    return isinstance(role, str) and role in _ROLES and bool({"chatId", "chatflowid", "sessionId"} & row.keys())


def _is_thumb(row: Mapping[str, Any]) -> bool:
    return "messageId" in row and isinstance(row.get("rating"), str) and row["rating"] in _THUMBS


def _is_chat(row: Mapping[str, Any]) -> bool:
    """A chat as the page exports it: `{id, source, sessionId, memoryType, email, messages}`."""
    messages = structured(row.get("messages"))
    if not isinstance(messages, list) or not {"sessionId", "memoryType"} <= row.keys():
        return False
    roles = [entry.get("role") for entry in messages if isinstance(entry, Mapping)]
    return has_any(row, ("sessionId", "memoryType")) or any(isinstance(role, str) and role in _ROLES for role in roles)


def _alone(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    if _is_thumb(value):
        name = name_of(value["messageId"])
        about, verdict = (name,) if name else (), _THUMBS[value["rating"]]
        yield dated(Evidence(row.at, about, "thumb", verdict, comment=_remark(value)), value)
        return
    entries = structured(value.get("messages"))
    if not isinstance(entries, list) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "a message without a chatId" if "role" in value else "an empty chat")
    yield from _draft([LogRow(row.at, entry) for entry in entries], value)


def _conversation(rows: list[LogRow]) -> Iterator[Outcome]:
    yield from _draft(in_time_order(rows, lambda row: row.value.get("createdDate")), rows[0].value)


def _draft(rows: list[LogRow], about: Mapping[str, Any]) -> Iterator[Outcome]:
    messages: list[Message] = []
    ratings: list[Rating] = []
    names: list[tuple[str, int]] = []
    unused: list[Reject] = []
    entries = [_mapping(row.value, index) for index, row in enumerate(rows)]
    for row, entry in zip(rows, entries, strict=True):
        spoken = messages_of(own) if (own := _entries(entry)) else ()
        if (reply := last_reply(spoken)) is not None:
            place = len(messages) + reply
            names += [(name, place)] if (name := name_of(entry.get("id"))) else []
            ratings += _ratings(entry, place)
        else:
            unused += [no_reply(row.at) for _ in _ratings(entry, 0)]
        messages += spoken
    if not messages:
        raise Unusable(Reason.NO_MESSAGES, "no text in these messages")
    yield ConversationDraft(
        at=rows[0].at,
        messages=numbered(messages),
        source_id=first_name(about, *entries, names=_CHATS),
        user=first_name(about, *entries, names=_USERS),
        started_at=next((time for entry in entries if (time := time_of(_time(entry)))), None),
        ratings=tuple(ratings),
        reply_ids=tuple(names),
    )
    yield from unused


def _mapping(entry: Any, index: int) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is {json_kind(entry)}")
    return entry


def _time(entry: Mapping[str, Any]) -> Any:
    return next((entry[name] for name in ("createdDate", "time") if entry.get(name) is not None), None)


def _entries(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message as `messages_of` reads it: the calls of tools before it, and a mark for each uploaded file."""
    name, content = entry.get("role"), entry.get("content", entry.get("message"))
    role = _ROLES.get(name, name) if isinstance(name, str) else name
    if not isinstance(content, str):
        raise Unusable(Reason.BAD_CONTENT, f"the content of a message by {short_form(name)} is not a text")
    entries: list[dict[str, Any]] = []
    tools = structured(entry.get("usedTools"))
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, Mapping) and isinstance(tool.get("tool"), str):
            entries += _called(tool, f"{name_of(entry.get('id')) or 'call'}-{number}")
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if content else []
    files = structured(entry.get("fileUploads"))
    for file in files if isinstance(files, list) else ():
        kind = str(file.get("mime", file.get("type"))).partition("/")[0] if isinstance(file, Mapping) else ""
        parts.append({"type": kind if kind in ("image", "audio", "video") else "file"})
    if parts:
        entries.append({"role": role, "content": parts, "timestamp": _time(entry)})
    return entries


def _called(tool: Mapping[str, Any], identity: str) -> list[dict[str, Any]]:
    given, result = tool.get("toolInput"), tool.get("toolOutput")
    arguments = given if isinstance(given, str) else json_text(given or {})
    function = {"name": tool["tool"], "arguments": arguments}
    call = {"role": "assistant", "content": None}
    call["tool_calls"] = [{"id": identity, "type": "function", "function": function}]
    if result is None:
        return [call]
    text = result if isinstance(result, str) else json_text(result)
    return [call, {"role": "tool", "tool_call_id": identity, "name": tool["tool"], "content": text}]


def _ratings(entry: Mapping[str, Any], place: int) -> Iterator[Rating]:
    feedback = structured(entry.get("feedback"))
    value = feedback.get("rating") if isinstance(feedback, Mapping) else feedback
    if isinstance(value, str) and value in _THUMBS:
        yield Rating(place, "thumb", _THUMBS[value], _remark(feedback) if isinstance(feedback, Mapping) else None)


def _remark(feedback: Mapping[str, Any]) -> str | None:
    text = feedback.get("content")
    return text if isinstance(text, str) and text.strip() else None
