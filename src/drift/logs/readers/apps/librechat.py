"""LibreChat: exported conversations, with all branches or one, flat or `recursive`, and messages of its database.

Messages are a tree by `parentMessageId`, or by the `children` inside each (see trees.py). A message's `content` holds
parts: text, thoughts (`think`), calls of tools with their output. Of several agents that answered at once (parts with a
`groupId`), LibreChat goes on with the reply of the first; those of the others are left out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome
from drift.logs.draft import ConversationDraft, as_cut, has, is_cut, messages_of, name_of, structured, time_of, truth_of
from drift.logs.files.rows import LogRow, Place, Reject, Unusable, json_kind
from drift.logs.traces.gathering import gathered, in_time_order
from drift.logs.traces.texts import first_name
from drift.logs.trees import Node, connect, paths
from drift.logs.unread import keys
from drift.logs.values import FINISHES
from drift.records import Message, Rating, Reason

_THUMBS = {"thumbsup": 1.0, "thumbsdown": -1.0}
_MODELS = ("model", "modelLabel", "chatGptLabel")
_AGENT = re.compile(r".*____(\d{1,9})", re.DOTALL)
"""The ids of agents that answer at once end with their number; that of the first may have none."""
_MAX_MESSAGES = 100_000  # inside each other

_MESSAGE = keys(
    "messageId parentMessageId conversationId isCreatedByUser text createdAt error user userId children files"
    f" attachments model sender unfinished {' '.join(FINISHES)}",
    content=keys("type text think tool_call"),
    feedback=keys("rating text tag"),
)
KEYS = {
    **_MESSAGE,
    **keys("promptPrefix system instructions modelLabel chatGptLabel"),
    **keys("", messages=_MESSAGE, options=keys("promptPrefix system instructions model modelLabel chatGptLabel")),
}


def recognises(row: Mapping[str, Any]) -> bool:
    if _is_message(row):
        return True
    messages = structured(row.get("messages"))
    return isinstance(messages, list) and any(isinstance(m, Mapping) and _is_message(m) for m in messages)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return gathered(rows, group_of, _conversation, _alone)


def group_of(row: Mapping[str, Any]) -> str | None:
    """The conversation of a message of the database; None for an export."""
    return first_name(row, names=("conversationId",)) if _is_message(row) else None


def id_of(row: Mapping[str, Any]) -> str | None:
    return name_of(row.get("messageId"))


def _is_message(row: Mapping[str, Any]) -> bool:
    return has(row, "isCreatedByUser") and bool(row.keys() & {"messageId", "text", "content"})


def _alone(row: LogRow) -> Iterator[Outcome]:
    entries = structured(row.value.get("messages"))
    if not isinstance(entries, list) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "an empty chat" if entries == [] else "no list of messages")
    options = structured(row.value.get("options"))
    yield from _paths(row.at, list(_flat(entries)), (row.value, options))


def _conversation(rows: list[LogRow]) -> Iterator[Outcome]:
    for outcome in _paths(rows[0].at, [row.value for row in rows], ()):
        yield replace(outcome, rows=0) if isinstance(outcome, Reject) else outcome


def _flat(entries: list[Any]) -> Iterator[Any]:
    """The messages of a recursive export, parents first, each with its parent's id."""
    waiting = [(entry, None) for entry in reversed(entries)]
    for _ in range(_MAX_MESSAGES):
        if not waiting:
            return
        entry, parent = waiting.pop()
        if isinstance(entry, Mapping) and parent is not None and "parentMessageId" not in entry:
            entry = {**entry, "parentMessageId": parent}
        yield entry
        children = structured(entry.get("children")) if isinstance(entry, Mapping) else None
        if isinstance(children, list):
            waiting += [(child, entry.get("messageId")) for child in reversed(children)]
    raise Unusable(Reason.TOO_LARGE, f"more than {_MAX_MESSAGES} messages")


def _paths(at: Place, entries: list[Any], about: tuple[Any, ...]) -> Iterator[Outcome]:
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is {json_kind(entry)}")
    entries = in_time_order(entries, lambda entry: entry.get("createdAt"))
    nodes = _nodes(entries)
    chat = first_name(*about, *entries, names=("conversationId",)) or next(iter(nodes), "")
    system = first_name(*about, names=("promptPrefix", "system", "instructions"))
    before = (Message("system", system),) if system else ()
    for outcome in paths(at, nodes, next(reversed(nodes), None), chat):
        if not isinstance(outcome, ConversationDraft):
            yield outcome
            continue
        ratings = tuple(replace(r, reply_index=r.reply_index + len(before)) for r in outcome.ratings)
        yield replace(
            outcome,
            messages=(*before, *outcome.messages),
            ratings=ratings,
            reply_ids=tuple((name, place + len(before)) for name, place in outcome.reply_ids),
            user=first_name(*about, *entries, names=("user", "userId")),
            model=outcome.model or first_name(*about, names=_MODELS),
            started_at=next((time for entry in entries if (time := time_of(entry.get("createdAt")))), None),
        )


def _nodes(entries: list[Mapping[str, Any]]) -> dict[str, Node]:
    """The messages by id. If none names a parent that is there, they follow each other."""
    ids = {name for entry in entries if (name := name_of(entry.get("messageId")))}
    is_tree = any(name_of(entry.get("parentMessageId")) in ids for entry in entries)
    nodes: dict[str, Node] = {}
    before: str | None = None
    for index, entry in enumerate(entries):
        name = name_of(entry.get("messageId")) or f"#{index}"
        name = f"#{index}" if name in nodes else name
        above = name_of(entry.get("parentMessageId"))
        parent = before if not is_tree else above if above in ids and above != name else None
        rating = _thumb(entry)
        nodes[name] = Node(_messages(entry, index), parent, _model(entry), ratings=(rating,) if rating else ())
        before = name
    connect(nodes, {})
    return nodes


def _model(entry: Mapping[str, Any]) -> str | None:
    return None if truth_of(entry.get("isCreatedByUser")) else first_name(entry, names=("model", "sender"))


def _messages(entry: Mapping[str, Any], index: int) -> tuple[Message, ...]:
    """The messages of one entry; none if the model failed. Raises Unusable."""
    if truth_of(entry.get("error")):
        return ()
    role = "user" if truth_of(entry.get("isCreatedByUser")) else "assistant"
    parts: list[dict[str, Any]] = []
    content = structured(entry.get("content"))
    for part in _of_first_agent(content) if isinstance(content, list) else ():
        parts += _part(part) if isinstance(part, Mapping) else []
    text = entry.get("text")
    if not parts:
        if not isinstance(text, str) and not (text is None and isinstance(content, list)):
            raise Unusable(Reason.BAD_CONTENT, f"the text of message {index} is {json_kind(text)}")
        parts = [{"type": "text", "text": text}] if text else []
    for key in ("files", "attachments"):
        listed = structured(entry.get(key))
        for file in listed if role == "user" and isinstance(listed, list) else ():
            kind = str(file.get("type")).partition("/")[0] if isinstance(file, Mapping) else ""
            parts.append({"type": kind if kind in ("image", "audio", "video") else "file"})
    if not parts:
        return ()
    messages = messages_of([{"role": role, "content": parts, "timestamp": entry.get("createdAt")}])
    if is_cut(entry) or truth_of(entry.get("unfinished")):
        messages = as_cut(messages)
    return tuple(replace(message, source_index=index) for message in messages)


def _of_first_agent(parts: list[Any]) -> list[Any]:
    """The parts without those of agents that answered beside the first one of their group."""
    firsts: dict[str, int] = {}
    for part in parts:
        if (seat := _seat(part)) is not None:
            group, number = seat
            firsts[group] = min(number, firsts.get(group, number))
    return [part for part in parts if (seat := _seat(part)) is None or firsts[seat[0]] == seat[1]] if firsts else parts


def _seat(part: Any) -> tuple[str, int] | None:
    """The group of agents that answered at once and the number of the one that wrote this part; None without a group:
    agents that hand over to each other have none."""
    place = part if isinstance(part, Mapping) else {}
    group, agent = name_of(place.get("groupId")), name_of(place.get("agentId"))
    if group is None or agent is None:
        return None
    numbered = _AGENT.fullmatch(agent)
    return group, int(numbered[1]) if numbered else -1


def _part(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A part as `messages_of` reads it: a call holds its output, which becomes the tool's answer."""
    kind = part.get("type")
    if kind == "think":
        return [{"type": "thinking", "thinking": part.get("think")}]
    if kind == "text":
        text = part.get("text")
        text = text.get("value") if isinstance(text, Mapping) else text
        return [{"type": "text", "text": text}] if isinstance(text, str) and text else []
    if kind == "tool_call":
        call = structured(part.get("tool_call"))
        if not isinstance(call, Mapping):
            return []
        function = structured(call.get("function"))
        call = {**call, **function} if isinstance(function, Mapping) else call
        name, identity = call.get("name"), call.get("id")
        arguments = call.get("args", call.get("arguments"))
        parts = [{"type": "tool_call", "id": identity, "name": name, "arguments": arguments}]
        if call.get("output") is not None:
            parts.append({"type": "tool_call_response", "id": identity, "name": name, "result": call["output"]})
        return parts
    if kind == "error":
        return []
    return [{"type": "image"} if kind in ("image_file", "image_url") else dict(part)]


def _thumb(entry: Mapping[str, Any]) -> Rating | None:
    feedback = structured(entry.get("feedback"))
    value = feedback.get("rating") if isinstance(feedback, Mapping) else None
    thumb = _THUMBS.get(value.lower().replace("_", "")) if isinstance(value, str) else None
    if thumb is None or not isinstance(feedback, Mapping):
        return None
    tag = structured(feedback.get("tag"))
    tag = tag.get("key") if isinstance(tag, Mapping) else tag
    words = [word for word in (tag, feedback.get("text")) if isinstance(word, str) and word.strip()]
    return Rating(0, "thumb", thumb, ": ".join(words) or None)
