"""Vercel's AI SDK: chats of UI messages (`parts`; before version 5 `content` with `toolInvocations`), and the tables of
its chatbot template, with one message or one vote per row.

A message of the assistant holds its steps: each with thoughts, text, calls of tools and their results, which become
messages of their own. Messages with the role `data` belong to the application.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drift.logs.convert import Outcome, many_per_row, with_beside
from drift.logs.draft import (
    Call,
    ConversationDraft,
    Evidence,
    has,
    is_cut,
    last_reply,
    messages_of,
    name_of,
    seconds_of,
    structured,
    time_of,
    truth_of,
)
from drift.logs.files.rows import LogRow, Reject, Unusable, json_kind, short_form
from drift.logs.judgements import no_reply
from drift.logs.parts import DENIED, unknown_types
from drift.logs.traces.texts import first_name
from drift.logs.traces.verdicts import JUDGED, VERDICTS, dated, is_unrated, judgements_beside
from drift.logs.unread import keys
from drift.logs.values import FINISHES
from drift.records import Rating, Reason

_LISTS = ("messages", "uiMessages", "initialMessages")
_CHAT = ("chatId", "chat_id")
_USER = ("userId", "user_id", "resourceId")
_TIMES = ("createdAt", "created_at", "timestamp")
_TEXTS, _THOUGHTS = ("text",), ("reasoning",)
_MEDIA = ("file", "image", "source-document")
_UNSEEN = re.compile(
    r"source.*|data-(?:(?:.*[-_])?(?:usage|delta|title|status|progress|metadata|id|kind|clear|finish|suggestion)"
    r"|.*(?:Usage|Delta|Title|Status|Progress|Metadata|Id|Kind)|appendMessage)"
)
"""Sources, and what the chatbot template and its like write about a message: no user sees these parts."""
_NAMES = ("toolName", "name")
_ANSWERED = ("output-available", "output-error", "result")

_MESSAGE = keys(
    "id role parts content reasoning toolInvocations experimental_attachments attachments"
    f" {' '.join((*_TIMES, *FINISHES, *VERDICTS))}",
    metadata=keys(f"model modelId {' '.join((*_TIMES, *FINISHES, *VERDICTS))}"),
)
_OF_A_ROW = keys(f"id model modelId metadata {' '.join((*_CHAT, *_USER, *_TIMES))}")
KEYS = {**_OF_A_ROW, **dict.fromkeys(_LISTS, _MESSAGE)}
TABLE_KEYS = {**_OF_A_ROW, **_MESSAGE, **keys("messageId message_id isUpvoted")}


def recognises(row: Mapping[str, Any]) -> bool:
    entries = _entries(row)
    return isinstance(entries, list) and any(map(_is_message, entries))


def recognises_table(row: Mapping[str, Any]) -> bool:
    in_chat = any(row.get(key) is not None for key in _CHAT)
    return in_chat and (has(row, "isUpvoted") or _is_message({**row, "parts": structured(row.get("parts"))}))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _chat)


def read_table(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _row)


def whole(draft: ConversationDraft) -> ConversationDraft:
    """A table holds all messages of a chat, so that there is nothing to check."""
    return draft


def _entries(row: Mapping[str, Any]) -> Any:
    return next((found for key in _LISTS if (found := structured(row.get(key))) is not None), None)


def _is_message(entry: Any) -> bool:
    """True for parts with a type (those of Gemini have none), and for what version 4 has instead."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("role"), str):
        return False
    parts = entry.get("parts")
    typed = isinstance(parts, list) and any(isinstance(part, Mapping) and "type" in part for part in parts)
    return typed or isinstance(entry.get("toolInvocations"), list)


def _chat(row: LogRow) -> Iterator[Outcome]:
    entries = _entries(row.value)
    if not isinstance(entries, list) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "an empty chat" if entries == [] else "no list of messages")
    plain: list[dict[str, Any]] = []
    judging: list[tuple[range, list[Mapping[str, Any]]]] = []  # with the places in `plain` of what is judged
    for index, entry in enumerate(entries):
        begin = len(plain)
        plain += _plain(entry, index)
        if entry.get("role") == "assistant":
            judging.append((range(begin, len(plain)), _judging(entry)))
    messages = messages_of(plain)
    replies = {m.source_index: index for index, m in enumerate(messages) if m.role == "assistant"}
    judged: list[Rating | Reject] = []
    for places, judgements in judging:
        reply = next((replies[place] for place in reversed(places) if place in replies), None)
        found = [one for place in judgements for one in judgements_beside(row.at, place, reply or 0)]
        judged += found if reply is not None else [no_reply(row.at) for _ in found]
    metadata = structured(row.value.get("metadata"))
    times = [entry["timestamp"] for entry in plain if entry.get("timestamp") is not None]
    draft = ConversationDraft(
        at=row.at,
        messages=messages,
        ratings=tuple(one for one in judged if isinstance(one, Rating)),
        source_id=first_name(row.value, names=("id", *_CHAT)),
        user=first_name(row.value, metadata, names=_USER),
        model=first_name(row.value, metadata, *map(_metadata, reversed(entries)), names=("model", "modelId")),
        started_at=time_of(_when(row.value) or next(iter(times), None)),
    )
    yield with_beside(draft, row.value)
    yield from (one for one in judged if isinstance(one, Reject))


def _judging(entry: Any) -> list[Mapping[str, Any]]:
    """The objects that hold a judgement of a message: itself, or its metadata."""
    places = (entry, _metadata(entry)) if isinstance(entry, Mapping) else ()
    return [place for place in places if isinstance(place, Mapping) and not JUDGED.isdisjoint(place)]


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """A judgement of what is no reply, and parts that no text, call or mark of media is made of."""
    entries = _entries(row)
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping):
            continue
        yield from (f"messages.parts.{kind}" for kind in _unread_parts(entry))
        for place in _judging(entry) if entry.get("role") != "assistant" else ():
            yield from (f"messages.{name}" for name in VERDICTS if not is_unrated(place.get(name)))


def unread_in_row(row: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a table's message that no text, call or mark of media is made of."""
    yield from (f"parts.{kind}" for kind in _unread_parts(row))


def _unread_parts(entry: Mapping[str, Any]) -> Iterator[str]:
    parts = structured(entry.get("parts"))
    return unknown_types(part for part in (parts if isinstance(parts, list) else ()) if not _is_known(part))


def _is_known(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, Mapping) else None
    is_tool = isinstance(kind, str) and (kind in ("dynamic-tool", "step-start") or kind.startswith("tool-"))
    return is_tool or kind in (*_TEXTS, *_THOUGHTS, *_MEDIA)


def _is_beside(kind: str) -> bool:
    """Whether a part of this kind stands beside the text: what an application calls data is mostly for its own use (its
    sources, times, suggestions). A message of nothing else shows it to the user."""
    return kind.startswith("data-") or _UNSEEN.fullmatch(kind) is not None


def _row(row: LogRow) -> Iterator[Outcome]:
    """One message or one vote of a table."""
    value, chat = row.value, first_name(row.value, names=_CHAT)
    if "isUpvoted" in value and not has(value, "role"):
        is_up, about = truth_of(value["isUpvoted"]), first_name(value, names=("messageId", "message_id"))
        if is_up is None or about is None:
            raise Unusable(Reason.NO_VERDICT, f"a vote {short_form(value['isUpvoted'])} about {short_form(about)}")
        yield dated(Evidence(row.at, (about,), "thumb", 1.0 if is_up else -1.0), value)
        return
    if chat is None:
        raise Unusable(Reason.NO_MESSAGES, f"a message without a chat; it is named by {', '.join(_CHAT)}")
    plain = _plain({**value, "parts": structured(value.get("parts"))}, 0)
    if not plain:
        raise Unusable(Reason.NOT_A_CHAT, "a message of the application")
    messages = messages_of(plain)
    name, when = name_of(value.get("id")), _when(value)
    reply = last_reply(messages)
    yield ConversationDraft(
        at=row.at,
        messages=messages,
        source_id=chat,
        user=first_name(value, names=_USER),
        model=first_name(value, _metadata(value), names=("model", "modelId")),
        started_at=time_of(when),
        call=Call(chat, (name,) if name else (), started=seconds_of(when) or 0.0),
        reply_ids=((name, reply),) if name and reply is not None else (),
    )


def _metadata(entry: Any) -> Any:
    return structured(entry.get("metadata")) if isinstance(entry, Mapping) else None


def _when(*places: Any) -> Any:
    found = (place[key] for place in places if isinstance(place, Mapping) for key in _TIMES if place.get(key))
    return next(found, None)


def _plain(entry: Any, index: int) -> list[dict[str, Any]]:
    """A UI message as messages in OpenAI's shape; [] for one of the application. Raises Unusable."""
    if not isinstance(entry, Mapping):
        raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is {json_kind(entry)}")
    role, when = entry.get("role"), _when(entry, _metadata(entry))
    if role == "data":
        return []
    parts = entry.get("parts")
    if not isinstance(parts, list):
        parts = [*_invocations(entry), *_content(entry)]
    steps = _Steps(role, when)
    for part in parts:
        if isinstance(part, Mapping):
            steps.take(part)
    listed = entry.get("experimental_attachments", entry.get("attachments"))
    for file in listed if isinstance(listed, list) else ():
        if isinstance(file, Mapping):
            steps.take({**file, "type": "file"})
    messages = steps.messages()
    places = (place for place in (entry, _metadata(entry)) if isinstance(place, Mapping))
    if messages[-1].get("role") == "assistant" and any(map(is_cut, places)):
        messages[-1]["finish_reason"] = "length"
    return messages


def _content(entry: Mapping[str, Any]) -> list[Any]:
    content, thoughts = entry.get("content"), entry.get("reasoning")
    said = [{"type": "reasoning", "text": thoughts}] if isinstance(thoughts, str) else []
    if isinstance(content, list):
        return [*said, *content]
    if content is not None and not isinstance(content, str):
        raise Unusable(Reason.BAD_CONTENT, f"the content of a message is {json_kind(content)}")
    return [*said, {"type": "text", "text": content or ""}]


def _invocations(entry: Mapping[str, Any]) -> list[Any]:
    listed = entry.get("toolInvocations")
    return [{"type": "tool-invocation", "toolInvocation": one} for one in (listed if isinstance(listed, list) else ())]


class _Steps:
    """Collects the parts of one message; what comes after the results of tools begins another message."""

    def __init__(self, role: Any, when: Any) -> None:
        self._base = {"role": role, **({} if when is None else {"timestamp": when})}
        self._done: list[dict[str, Any]] = []
        self._content: list[dict[str, Any]] = []
        self._thoughts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._has_data = False

    def take(self, part: Mapping[str, Any]) -> None:
        kind = part.get("type")
        kind = kind if isinstance(kind, str) else ""
        if kind == "tool-invocation" and isinstance(part.get("toolInvocation"), Mapping):
            self._tool(part["toolInvocation"], "")
        elif kind == "dynamic-tool" or kind.startswith("tool-"):
            self._tool(part, kind.removeprefix("tool-"))
        elif kind == "step-start":
            self._close()
        elif kind in _TEXTS or kind in _THOUGHTS:
            if self._results:
                self._close()
            text = next((part[key] for key in ("text", "reasoning", "content") if isinstance(part.get(key), str)), None)
            if text is not None and kind in _THOUGHTS:
                self._thoughts.append(text)
            elif text is not None:
                self._content.append({"type": "text", "text": text})
        elif kind in _MEDIA or (not _is_known(part) and not _is_beside(kind) and any(unknown_types([part]))):
            if self._results:
                self._close()
            self._content.append({"type": _media(part)})
        elif kind.startswith("data-") and not _UNSEEN.fullmatch(kind):
            self._has_data = True

    def _tool(self, part: Mapping[str, Any], name: str) -> None:
        tool = first_name(part, names=_NAMES) or name
        call = name_of(part.get("toolCallId"))
        given = next((part[key] for key in ("input", "args", "rawInput") if part.get(key) is not None), {})
        self._calls.append({"id": call, "type": "function", "function": {"name": tool, "arguments": given}})
        result = next((part[key] for key in ("output", "result", "errorText") if part.get(key) is not None), None)
        if result is None and part.get("state") in _ANSWERED:  # a tool that returns nothing has answered, too
            result = ""
        if result is None and part.get("state") == "output-denied":
            approval = part.get("approval")
            result = (approval.get("reason") if isinstance(approval, Mapping) else None) or DENIED
        if result is not None:
            answer = result if isinstance(result, str | list) else {"type": "tool_result", "content": result}
            content = [answer] if isinstance(answer, dict) else answer
            self._results.append({"role": "tool", "tool_call_id": call, "name": tool, "content": content})

    def _close(self) -> None:
        if self._content or self._thoughts or self._calls:
            message = {**self._base, "content": self._content or ""}
            if self._thoughts:
                message["reasoning_content"] = "\n".join(self._thoughts)
            if self._calls:
                message["tool_calls"] = self._calls
            self._done += [message, *self._results]
        self._content, self._thoughts, self._calls, self._results = [], [], [], []

    def messages(self) -> list[dict[str, Any]]:
        """The messages; an empty one if there were no parts, so that the turn keeps its place."""
        self._close()
        return self._done or [{**self._base, "content": [{"type": "file"}] if self._has_data else ""}]


def _media(part: Mapping[str, Any]) -> str:
    """Image, audio, video or file, by the type of the file."""
    said = first_name(part, names=("mediaType", "mimeType", "contentType"))
    kind = (said or "").partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "image" if part.get("type") == "image" else "file"
