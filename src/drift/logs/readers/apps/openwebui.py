"""Open WebUI: exported chats, and exported feedback with the chat as it was then.

A chat is a tree of messages: each path from a root to a leaf is a conversation. Several replies to one message are
regenerations of each other, unless several models were asked at once (their `modelIdx` differs; without `modelIdx`, the
message names several models). All but the last count as disliked, unless the user answered them or returned to them.
A path keeps its id when it grows: the chat's, with the message where it leaves the older path.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drift.logs.convert import Outcome, many_per_row
from drift.logs.draft import ConversationDraft, message_of, messages_of, name_of, structured, time_of
from drift.logs.files.rows import MAX_ROW_BYTES, LogRow, Place, Reject, Unusable, short_form
from drift.records import Message, Rating, Reason

_MAX_MESSAGES = 100_000  # in all paths of a chat together: a tree can have as many paths as messages


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_feedback(row) or _history(row) is not None


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _is_feedback(row: Mapping[str, Any]) -> bool:
    return {"meta", "data"} <= row.keys() and isinstance(row["data"], Mapping) and "rating" in row["data"]


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
    yield from _paths(row.at, {**owner, **chat}, {about: row.value["data"]})


@dataclass(frozen=True, slots=True)
class _Node:
    message: Message
    parent: str | None
    children: list[str]
    model: str | None
    place: Any
    """`modelIdx`: the number of the model, if several were asked at once."""
    feedback: Mapping[str, Any] | None
    models: tuple[str, ...]
    """The models that a user's message was sent to."""


def _paths(at: Place, row: Mapping[str, Any], feedback: Mapping[str, Any]) -> Iterator[Outcome]:
    history = _history(row)
    if history is None:
        raise Unusable(Reason.NO_MESSAGES, "a chat without history.messages")
    messages = structured(history["messages"])
    if not messages:
        raise Unusable(Reason.NO_MESSAGES, "an empty chat")
    nodes = _nodes(messages, feedback)
    roots = [name for name, node in nodes.items() if node.parent is None]
    depth = _reach(nodes, roots)
    disliked = _regenerated(nodes, name_of(history.get("currentId")))
    chat = name_of(row.get("id")) or name_of(row.get("chat_id")) or next(iter(nodes))
    shared = {
        "family": chat,
        "user": name_of(row.get("user_id")),
        "started_at": time_of(row.get("created_at", history.get("timestamp"))),
    }
    budget, left_out = _Budget(), 0
    for leaf in (name for name in depth if not nodes[name].children):
        path = _path(nodes, leaf) if budget.has_room_for(depth[leaf]) else []
        if not path or not budget.takes(len(path), sum(len(nodes[name].message.content) for name in path)):
            left_out += 1
            continue
        branch = next((name for name in reversed(path) if _leaves_older_path(nodes, roots, name)), None)
        source_id = chat if branch is None else f"{chat}/{branch}"
        draft = _draft(at, [nodes[name] for name in path], [name in disliked for name in path])
        yield replace(draft, source_id=source_id, **shared)
    if left_out:
        yield Reject(at, Reason.TOO_LARGE, f"{left_out} more paths of a tree of {len(nodes)} messages")
    if len(depth) < len(nodes):
        lost = next(name for name in nodes if name not in depth)
        yield Reject(
            at,
            Reason.CYCLIC_TREE,
            f"{len(nodes) - len(depth)} messages lead to no root, for example {short_form(lost)}",
        )


def _nodes(messages: Mapping[str, Any], feedback: Mapping[str, Any]) -> dict[str, _Node]:
    """All messages by id. Only `parentId` makes the tree; `childrenIds` only gives the order."""
    nodes: dict[str, _Node] = {}
    for index, (name, entry) in enumerate(messages.items()):
        message = message_of(entry, index)
        parent = name_of(entry.get("parentId"))
        judged = feedback.get(name, structured(entry.get("annotation")))
        nodes[name] = _Node(
            message,
            parent if parent in messages else None,
            [],
            name_of(entry.get("model")),
            entry.get("modelIdx"),
            judged if isinstance(judged, Mapping) else None,
            tuple(filter(None, map(name_of, models))) if isinstance(models := entry.get("models"), list) else (),
        )
    for name, node in nodes.items():
        if node.parent is not None:
            nodes[node.parent].children.append(name)
    for name, node in nodes.items():
        listed = messages[name].get("childrenIds")
        listed = listed if isinstance(listed, list) else []
        order = {child: place for place, child in enumerate(listed) if isinstance(child, str)}
        node.children.sort(key=lambda child, order=order: order.get(child, len(order)))
    return nodes


def _reach(nodes: Mapping[str, _Node], roots: list[str]) -> dict[str, int]:
    """The length of the path to each message that leads to a root. Missing messages are in a cycle."""
    depth = dict.fromkeys(roots, 1)
    waiting = list(reversed(roots))
    while waiting:
        name = waiting.pop()
        for child in reversed(nodes[name].children):
            depth[child] = depth[name] + 1
            waiting.append(child)
    return depth


def _path(nodes: Mapping[str, _Node], leaf: str) -> list[str]:
    path, name = [], leaf
    while name is not None:
        path.append(name)
        name = nodes[name].parent
    return path[::-1]


def _leaves_older_path(nodes: Mapping[str, _Node], roots: list[str], name: str) -> bool:
    parent = nodes[name].parent
    siblings = roots if parent is None else nodes[parent].children
    return siblings[0] != name


def _regenerated(nodes: Mapping[str, _Node], current: str | None) -> set[str]:
    """The replies that were asked for again, and that the user neither continued nor came back to."""
    stayed: set[str] = set()
    while current is not None and current in nodes and current not in stayed:
        stayed.add(current)
        current = nodes[current].parent
    disliked: set[str] = set()
    for node in nodes.values():
        by_model: dict[str, list[str]] = {}
        for child in node.children:
            if nodes[child].message.role == "assistant":
                by_model.setdefault(_seat(node, nodes[child]), []).append(child)
        for seat, replies in by_model.items():
            if (
                node.models.count(seat) < 2
            ):  # if one model was asked twice at once, the log does not show which reply is later
                disliked.update(reply for reply in replies[:-1] if reply not in stayed and not _answered(nodes, reply))
    return disliked


def _seat(request: _Node, reply: _Node) -> str:
    """Which of several models that were asked at once wrote this reply."""
    if reply.place is None and len(request.models) > 1:
        return reply.model or ""
    return f"place {reply.place!r}"


def _answered(nodes: Mapping[str, _Node], reply: str) -> bool:
    return any(nodes[child].message.role == "user" for child in nodes[reply].children)


class _Budget:
    """The size that all paths of one chat may have together."""

    def __init__(self) -> None:
        self._messages, self._characters = _MAX_MESSAGES, MAX_ROW_BYTES

    def has_room_for(self, messages: int) -> bool:
        return messages <= self._messages

    def takes(self, messages: int, characters: int) -> bool:
        if messages > self._messages or characters > self._characters:
            return False
        self._messages -= messages
        self._characters -= characters
        return True


def _draft(at: Place, path: list[_Node], disliked: list[bool]) -> ConversationDraft:
    ratings = []
    for index, node in enumerate(path):
        if node.message.role == "assistant":
            if disliked[index]:
                ratings.append(Rating(index, "regeneration", -1.0))
            if node.feedback is not None and (rating := _thumb(node.feedback, index)):
                ratings.append(rating)
    models = [node.model for node in path if node.message.role == "assistant" and node.model]
    return ConversationDraft(
        at=at,
        messages=tuple(node.message for node in path),
        ratings=tuple(ratings),
        model=models[-1] if models else None,
    )


def _thumb(feedback: Mapping[str, Any], reply_index: int) -> Rating | None:
    """The rating: 1 and -1 are thumbs, 0 takes one back. `reason`: a word that the page offers."""
    value = feedback.get("rating")
    value = {"1": 1, "-1": -1}.get(value, value) if isinstance(value, str) else value
    if value not in (1, -1) or isinstance(value, bool):
        return None
    texts = [part for key in ("reason", "comment") if isinstance(part := feedback.get(key), str) and part.strip()]
    comment = messages_of([{"role": "user", "content": ": ".join(texts)}])[0].content if texts else None
    return Rating(reply_index, "thumb", float(value), comment)
