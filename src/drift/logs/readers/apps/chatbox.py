"""Chatbox: sessions as it stores and exports them, with their older threads and their forks.

A session is one row, or one key `session:ID` of an export of everything. Each thread is a conversation. A fork of a
message holds other ways in which the chat went on: a path each (see trees.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, many_per_row
from drift.logs.draft import ConversationDraft, as_cut, has, has_any, is_cut, messages_of, name_of, structured
from drift.logs.files.rows import LogRow, Place, Reject, Unusable, json_kind
from drift.logs.traces.texts import first_name
from drift.logs.trees import Node, connect, paths
from drift.logs.unread import EACH, keys
from drift.logs.values import FINISHES
from drift.records import Message, Reason

_MARKS = frozenset(("messageForksHash", "threads", "threadName", "assistantAvatarKey", "copilotId", "picUrl"))

_MESSAGE = keys(
    f"id role content timestamp model reasoningContent pictures files links {' '.join(FINISHES)}",
    contentParts=keys("type text toolName toolCallId args result storageKey url"),
)
_THREAD = keys("id model modelId", messages=_MESSAGE)
_SESSION = {
    **_THREAD,
    **keys("", settings={}, threads=_THREAD, messageForksHash={EACH: keys("position", lists=_THREAD)}),
}
KEYS = {**_SESSION, "chat-sessions": _SESSION}


def recognises(row: Mapping[str, Any]) -> bool:
    return any(True for _ in _sessions(row))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _sessions(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The session that the row is, or those in an export of everything."""
    if _is_session(row):
        yield row
        return
    listed = structured(row.get("chat-sessions"))
    named = [structured(value) for key, value in row.items() if key.startswith("session:")]
    for value in (*named, *(listed if isinstance(listed, list) else ())):
        if isinstance(value, Mapping) and "messages" in value:
            yield value


def _is_session(row: Mapping[str, Any]) -> bool:
    messages = structured(row.get("messages"))
    if not isinstance(messages, list):
        return False
    entries = [entry for entry in messages if isinstance(entry, Mapping)]
    return any(has(entry, "contentParts") for entry in entries) or (has(row, "name") and has_any(row, _MARKS))


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    sessions = list(_sessions(row.value))
    if not sessions:
        raise Unusable(Reason.NO_MESSAGES, "no session with messages")
    for session in sessions:
        try:
            yield from _threads(row.at, session)
        except Unusable as error:
            if len(sessions) == 1:
                raise
            yield Reject(row.at, error.reason, error.detail)


def _threads(at: Place, session: Mapping[str, Any]) -> Iterator[Outcome]:
    name = name_of(session.get("id"))
    settings = structured(session.get("settings"))
    model = first_name(settings, session, names=("modelId", "model"))
    threads = structured(session.get("threads"))
    older = [thread for thread in threads if isinstance(thread, Mapping)] if isinstance(threads, list) else []
    given = structured(session.get("messages"))
    if not isinstance(given, list) or not (given or older):
        raise Unusable(Reason.NO_MESSAGES, "an empty session" if given == [] else "no list of messages")
    forks = structured(session.get("messageForksHash"))
    forks = forks if isinstance(forks, Mapping) else {}
    for thread in (*older, *([session] if given else [])):
        own = name_of(thread.get("id"))
        chat = name if thread is session or name is None or own is None else f"{name}/{own}"
        for outcome in _paths(at, structured(thread.get("messages")), forks, chat):
            is_draft = isinstance(outcome, ConversationDraft)
            shared = {"model": outcome.model or model, "family": name or outcome.family} if is_draft else {}
            yield replace(outcome, **shared)


def _paths(at: Place, entries: Any, forks: Mapping[str, Any], chat: str | None) -> Iterator[Outcome]:
    if not isinstance(entries, list) or not entries:
        return
    nodes: dict[str, Node] = {}
    order: dict[str, list[str]] = {}
    last = _add_chain(nodes, entries, None)
    waiting = [name for name in nodes if name in forks]
    while waiting:
        parent = waiting.pop()
        fork = structured(forks[parent])
        lists = structured(fork.get("lists")) if isinstance(fork, Mapping) else None
        current = [name for name, node in nodes.items() if node.parent == parent]
        position = fork.get("position") if isinstance(fork, Mapping) else None
        begins: list[str] = []
        for place, branch in enumerate(lists if isinstance(lists, list) else ()):
            inside = structured(branch.get("messages")) if isinstance(branch, Mapping) else None
            if place == position:
                begins += current
            if not isinstance(inside, list) or not inside:
                continue  # the branch that the session shows has its messages there
            before = set(nodes)
            _add_chain(nodes, inside, parent)
            added = [name for name in nodes if name not in before]
            begins += added[:1]
            waiting += [name for name in added if name in forks]
        order[parent] = begins if set(current) <= set(begins) else begins + current
    connect(nodes, order)
    yield from paths(at, nodes, last, chat or next(iter(nodes)))


def _add_chain(nodes: dict[str, Node], entries: list[Any], parent: str | None) -> str | None:
    """Add messages that follow each other; returns the id of the last."""
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is {json_kind(entry)}")
        name = name_of(entry.get("id"))
        name = f"#{len(nodes)}" if name is None or name in nodes else name
        model = name_of(entry.get("model")) if entry.get("role") == "assistant" else None
        nodes[name] = Node(_messages(entry, len(nodes)), parent, model)
        parent = name
    return parent


def _messages(entry: Mapping[str, Any], index: int) -> tuple[Message, ...]:
    """The messages of one entry: a call of a tool holds its result. None if the model failed. Raises Unusable."""
    parts = structured(entry.get("contentParts"))
    content = entry.get("content")
    said: list[dict[str, Any]] = []
    if isinstance(parts, list):
        for part in parts:
            said += _part(part) if isinstance(part, Mapping) else []
    elif isinstance(content, str):
        said = [{"type": "text", "text": content}] if content else []
    else:
        raise Unusable(Reason.BAD_CONTENT, f"message {index} has no contentParts and no text")
    for key, kind in (("pictures", "image"), ("files", "file"), ("links", "file")):
        listed = structured(entry.get(key))
        said += [{"type": kind}] * len(listed) if isinstance(listed, list) else []
    thoughts = entry.get("reasoningContent")
    if not said and not thoughts:
        return ()
    when = entry.get("timestamp")
    read = messages_of([{"role": entry.get("role"), "content": said, "timestamp": when, "reasoning_content": thoughts}])
    return tuple(replace(message, source_index=index) for message in (as_cut(read) if is_cut(entry) else read))


def _part(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    kind = part.get("type")
    if kind == "reasoning":
        return [{"type": "thinking", "thinking": part.get("text")}]
    if kind == "tool-call":
        name, identity = part.get("toolName"), part.get("toolCallId")
        said = [{"type": "tool_call", "id": identity, "name": name, "arguments": part.get("args")}]
        if part.get("result") is not None:
            said.append({"type": "tool_call_response", "id": identity, "name": name, "result": part["result"]})
        return said
    return [] if kind == "info" or (kind == "text" and not part.get("text")) else [dict(part)]
