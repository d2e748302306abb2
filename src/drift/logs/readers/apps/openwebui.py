"""Open WebUI: exported chats, and exported feedback with the chat as it was then.

A chat is a tree of messages (see trees.py). Several replies to one message are regenerations of each other, unless
several models were asked at once (their `modelIdx` differs; without `modelIdx`, the message names several models). A
reply that the user has edited is the model's (`originalContent`); the edit is a correction of it. Newer versions keep a
reply as items (`output`), with or without its text in `content`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, many_per_row
from drift.logs.draft import (
    ROLES,
    ConversationDraft,
    as_cut,
    is_cut,
    last_reply,
    message_of,
    messages_in,
    messages_of,
    name_of,
    structured,
    time_of,
)
from drift.logs.files.rows import LogRow, Place, Reject, Unusable
from drift.logs.traces.texts import plain_messages, reply_messages
from drift.logs.trees import Node, connect, paths
from drift.logs.unread import EACH, MESSAGE, keys
from drift.records import Message, Rating, Reason

_MESSAGE = {
    **MESSAGE,
    **keys("id parentId childrenIds model modelIdx models originalContent output rating"),
    **keys("", annotation=keys("rating reason comment")),
}
_HISTORY = keys("currentId timestamp", messages={EACH: _MESSAGE})
_CHAT = keys("id chat_id user_id created_at", history=_HISTORY, chat=keys("id", history=_HISTORY))
KEYS = {
    **_CHAT,
    **keys("", data=keys("rating reason comment"), meta=keys("message_id chat_id"), snapshot=keys("", chat=_CHAT)),
}


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_feedback(row) or _history(row) is not None


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _is_feedback(row: Mapping[str, Any]) -> bool:
    data = structured(row["data"]) if {"meta", "data"} <= row.keys() else None
    return isinstance(data, Mapping) and "rating" in data


def _history(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The tree of a chat, which is in `chat` (in a row of the database) or by itself."""
    for place in (structured(row.get("chat")), row):
        history = structured(place.get("history")) if isinstance(place, Mapping) else None
        if isinstance(history, Mapping) and isinstance(structured(history.get("messages")), Mapping):
            return history
    return None


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    if not _is_feedback(row.value):
        yield from _paths(row.at, row.value, {})
        return
    meta, snapshot = (structured(row.value.get(key)) for key in ("meta", "snapshot"))
    about = name_of(meta.get("message_id")) if isinstance(meta, Mapping) else None
    chat = structured(snapshot.get("chat")) if isinstance(snapshot, Mapping) else None
    history = _history(chat) if isinstance(chat, Mapping) else None
    if about is None or chat is None or history is None or about not in structured(history["messages"]):
        raise Unusable(Reason.ORPHAN_FEEDBACK, "feedback without its chat: export the snapshot too")
    owner = {"user_id": row.value.get("user_id"), "id": meta.get("chat_id")}
    yield from _paths(row.at, {**owner, **chat}, {about: structured(row.value["data"])})


def _paths(at: Place, row: Mapping[str, Any], feedback: Mapping[str, Any]) -> Iterator[Outcome]:
    history = _history(row)
    if history is None:
        raise Unusable(Reason.NO_MESSAGES, "a chat without history.messages")
    messages = structured(history["messages"])
    if not messages:
        raise Unusable(Reason.NO_MESSAGES, "an empty chat")
    nodes = _nodes(messages, feedback)
    chat = name_of(row.get("id")) or name_of(row.get("chat_id")) or next(iter(nodes))
    user = name_of(row.get("user_id"))
    started_at = time_of(row.get("created_at", history.get("timestamp")))
    for outcome in paths(at, nodes, name_of(history.get("currentId")), chat):
        is_draft = isinstance(outcome, ConversationDraft)
        yield replace(outcome, user=user, started_at=started_at) if is_draft else outcome


def _nodes(messages: Mapping[str, Any], feedback: Mapping[str, Any]) -> dict[str, Node]:
    """All messages by id. Only `parentId` makes the tree; `childrenIds` only gives the order."""
    nodes: dict[str, Node] = {}
    for index, (name, entry) in enumerate(messages.items()):
        said = _said(entry, index)
        parent = name_of(entry.get("parentId"))
        parent = parent if parent in messages else None
        nodes[name] = Node(
            tuple(said),
            parent,
            name_of(entry.get("model")),
            tuple(_ratings(entry, feedback.get(name))),
            _seat(messages[parent] if parent else {}, entry),
        )
    connect(nodes, {name: entry.get("childrenIds") for name, entry in messages.items()})
    return nodes


def _said(entry: Any, index: int) -> list[Message]:
    """The messages of an entry: what the model wrote, before the user edited it. Raises Unusable."""
    if not isinstance(entry, Mapping) or ROLES.get(str(entry.get("role")).lower()) != "assistant":
        return messages_in(entry, index) or [message_of(entry, index)]
    if _is_in_items(entry):
        items = reply_messages(plain_messages(entry["output"], "assistant"), index)
        items = [replace(message, timestamp=time_of(entry.get("timestamp"))) for message in items]
        return (as_cut(items) if is_cut(entry) else items) or [message_of(entry, index)]
    if (original := _text(entry, "originalContent")) is not None:
        entry = {**entry, "content": original}
    return messages_in(entry, index) or [message_of(entry, index)]


def _is_in_items(entry: Mapping[str, Any]) -> bool:
    """Whether the items of a reply hold its text, and nothing else does."""
    return all(_text(entry, name) is None for name in ("content", "originalContent")) and bool(
        structured(entry.get("output"))
    )


def _text(entry: Mapping[str, Any], name: str) -> str | None:
    value = entry.get(name)
    return value if isinstance(value, str) and value.strip() else None


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """The items of a reply whose text stands in `content` too."""
    history = _history(row)
    for entry in structured(history["messages"]).values() if history is not None else ():
        if isinstance(entry, Mapping) and entry.get("output") and not _is_in_items(entry):
            yield "messages.output"


def _ratings(entry: Mapping[str, Any], feedback: Any) -> Iterator[Rating]:
    """The thumb on a message (in the first versions, on the message itself), and what the user made of the reply."""
    annotation = structured(entry.get("annotation"))
    judged = feedback or {"rating": entry.get("rating"), **(annotation if isinstance(annotation, Mapping) else {})}
    if isinstance(judged, Mapping) and (thumb := _thumb(judged)) is not None:
        yield thumb
    if _text(entry, "originalContent") and _text(entry, "content"):
        both = (_said(entry, 0), messages_in(entry, 0))
        replies = ((said, last_reply(said)) for said in both)
        original, edited = ("" if place is None else said[place].content.strip() for said, place in replies)
        if edited and original != edited:  # thoughts stand in both, apart from the text
            yield Rating(0, "correction", -1.0, preferred=edited)


def _seat(request: Any, reply: Mapping[str, Any]) -> str | None:
    """Which of several models that were asked at once wrote this reply. If one model was asked twice at once, the log
    does not show which reply is later."""
    asked = request.get("models") if isinstance(request, Mapping) else None
    models = list(filter(None, map(name_of, asked))) if isinstance(asked, list) else []
    place = reply.get("modelIdx")
    seat = name_of(reply.get("model")) or "" if place is None and len(models) > 1 else f"place {place!r}"
    return seat if models.count(seat) < 2 else None


def _thumb(feedback: Mapping[str, Any]) -> Rating | None:
    """The rating: 1 and -1 are thumbs, 0 takes one back. `reason`: a word that the page offers."""
    value = feedback.get("rating")
    value = {"1": 1, "-1": -1}.get(value, value) if isinstance(value, str) else value
    if value not in (1, -1) or isinstance(value, bool):
        return None
    texts = [part for key in ("reason", "comment") if isinstance(part := feedback.get(key), str) and part.strip()]
    comment = messages_of([{"role": "user", "content": ": ".join(texts)}])[0].content if texts else None
    return Rating(0, "thumb", float(value), comment)
