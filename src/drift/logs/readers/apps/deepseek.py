"""DeepSeek's export: conversations.json, a tree of nodes in `mapping`, as ChatGPT's, with other messages in it.

A message holds `fragments` (REQUEST, THINK, RESPONSE, and steps of a search) or, in older exports, `content` and
`reasoning_content` without a role: then requests and replies take turns from the root on.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, many_per_row
from drift.logs.draft import ConversationDraft, has_any, messages_of, name_of, structured, time_of
from drift.logs.files.rows import LogRow, Reject, Unusable, json_kind
from drift.logs.trees import Node, connect, paths
from drift.logs.unread import EACH, keys
from drift.records import Message, Reason

_REQUEST, _TEXTS, _THOUGHT = "REQUEST", ("REQUEST", "RESPONSE"), "THINK"

_MESSAGE = keys("model inserted_at content reasoning_content files", fragments=keys("type content"))
KEYS = keys("id inserted_at", mapping={EACH: keys("id parent children", message=_MESSAGE)})


def recognises(row: Mapping[str, Any]) -> bool:
    nodes = structured(row.get("mapping"))
    return isinstance(nodes, Mapping) and any(is_message(node.get("message")) for node in _objects(nodes.values()))


def is_message(message: Any) -> bool:
    """Whether a node's message is DeepSeek's: it has no author."""
    if not isinstance(message, Mapping) or has_any(message, ("author", "role")):
        return False
    return isinstance(structured(message.get("fragments")), list) or isinstance(message.get("content"), str)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def unread_in(row: Mapping[str, Any]) -> Iterator[str]:
    """Fragments of other types: the steps of a search."""
    nodes = structured(row.get("mapping"))
    for node in _objects(nodes.values() if isinstance(nodes, Mapping) else ()):
        for fragment in _fragments(node.get("message")):
            if fragment.get("type") not in (*_TEXTS, _THOUGHT):
                yield f"mapping.message.fragments.{str(fragment.get('type'))[:40]}"


def _objects(values: Iterable[Any]) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)]


def _fragments(message: Any) -> list[Mapping[str, Any]]:
    listed = structured(message.get("fragments")) if isinstance(message, Mapping) else None
    return _objects(listed) if isinstance(listed, list) else []


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    entries = structured(row.value.get("mapping"))
    if not isinstance(entries, Mapping) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "a chat without nodes in its mapping")
    chat = name_of(row.value.get("id")) or next(iter(entries))
    started_at = time_of(row.value.get("inserted_at"))
    for outcome in paths(row.at, _nodes(entries), None, chat):
        is_draft = isinstance(outcome, ConversationDraft)
        yield replace(outcome, started_at=started_at) if is_draft else outcome


def _nodes(entries: Mapping[str, Any]) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    parents: dict[str, str | None] = {}
    for index, (name, entry) in enumerate(entries.items()):
        if not isinstance(entry, Mapping):
            raise Unusable(Reason.NOT_AN_OBJECT, f"node {index} is {json_kind(entry)}")
        parent = name_of(entry.get("parent"))
        parents[name] = parent if parent in entries else None
    turns = _turns(entries, parents)
    for index, (name, entry) in enumerate(entries.items()):
        message = entry.get("message")
        messages = _messages(message, turns[name], index) if isinstance(message, Mapping) else ()
        model = name_of(message.get("model")) if isinstance(message, Mapping) else None
        nodes[name] = Node(messages, parents[name], model)
    connect(nodes, {name: entry.get("children") for name, entry in entries.items()})
    return nodes


def _turns(entries: Mapping[str, Any], parents: Mapping[str, str | None]) -> dict[str, str]:
    """Who speaks in each node of an older export: the user first."""
    counts: dict[str, int] = {}  # of the messages from the root to a node
    for name in entries:
        chain: dict[str, None] = {}
        above: str | None = name
        while above is not None and above not in counts and above not in chain:
            chain[above] = None
            above = parents[above]
        count = 0 if above is None else counts.get(above, 0)
        for node in reversed(chain):
            count += isinstance(entries[node].get("message"), Mapping)
            counts[node] = count
    return {name: "user" if count % 2 else "assistant" for name, count in counts.items()}


def _messages(message: Mapping[str, Any], turn: str, index: int) -> tuple[Message, ...]:
    """The message of a node; none if it holds nothing. Raises Unusable."""
    fragments = _fragments(message)
    texts = [(str(part.get("type")), part.get("content")) for part in fragments]
    if not fragments:
        texts = [(_THOUGHT, message.get("reasoning_content")), ("RESPONSE", message.get("content"))]
    else:
        turn = "user" if any(kind == _REQUEST for kind, _ in texts) else "assistant"
    texts = [(kind, text) for kind, text in texts if isinstance(text, str) and text.strip()]
    parts: list[dict[str, Any]] = [{"type": "text", "text": text} for kind, text in texts if kind in _TEXTS]
    files = structured(message.get("files"))
    parts += [{"type": "file"} for _ in files] if turn == "user" and isinstance(files, list) else []
    thoughts = "\n".join(text for kind, text in texts if kind == _THOUGHT)
    if not parts and not thoughts:
        return ()
    entry = {"role": turn, "content": parts or "", "timestamp": message.get("inserted_at")}
    entry |= {"reasoning_content": thoughts} if thoughts else {}
    return tuple(replace(one, source_index=index) for one in messages_of([entry]))
