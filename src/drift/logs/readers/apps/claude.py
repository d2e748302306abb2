"""Claude's export: conversations.json with `chat_messages`.

A message holds blocks: text, thinking, calls of tools and, in the same message, their results, which become messages of
their own. Text that was pasted as an attachment belongs to the message. `parent_message_uuid`, where it is given, makes
a tree (see trees.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drift.logs.convert import Outcome, many_per_row
from drift.logs.draft import ConversationDraft, as_cut, has, is_cut, messages_of, name_of, structured, time_of
from drift.logs.files.rows import LogRow, Reject, Unusable, json_kind
from drift.logs.trees import Node, connect, paths
from drift.logs.unread import PARTS, keys
from drift.logs.values import FINISHES
from drift.records import Message, Reason

_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".heic", ".bmp", ".svg")
_NO_CONTENT = ("token_budget", "flag")

_MESSAGE = keys(
    f"uuid parent_message_uuid sender role content text created_at attachments files files_v2 {' '.join(FINISHES)}",
    content=PARTS,
)
KEYS = keys("uuid account model created_at current_leaf_message_uuid", chat_messages=_MESSAGE)


def recognises(row: Mapping[str, Any]) -> bool:
    return has(row, "chat_messages") or ("chat_messages" in row and has(row, "uuid"))


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    value = row.value
    entries = structured(value.get("chat_messages"))
    if not isinstance(entries, list) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "an empty chat" if entries == [] else "chat_messages is not a list")
    account = value.get("account")
    nodes = _nodes(entries)
    chat = name_of(value.get("uuid")) or next(iter(nodes))
    shared = {
        "user": name_of(account.get("uuid")) if isinstance(account, Mapping) else None,
        "started_at": time_of(value.get("created_at")),
    }
    current = name_of(value.get("current_leaf_message_uuid")) or next(reversed(nodes))
    for outcome in paths(row.at, nodes, current, chat):
        is_draft = isinstance(outcome, ConversationDraft)
        yield replace(outcome, model=name_of(value.get("model")), **shared) if is_draft else outcome


def _nodes(entries: list[Any]) -> dict[str, Node]:
    """The messages by id. Without parents they follow each other."""
    names: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is {json_kind(entry)}")
        names.setdefault(name_of(entry.get("uuid")) or f"#{index}", index)
    is_tree = any(name_of(entry.get("parent_message_uuid")) in names for entry in entries)
    nodes: dict[str, Node] = {}
    before: str | None = None
    for index, entry in enumerate(entries):
        name = name_of(entry.get("uuid")) or f"#{index}"
        if names[name] != index:  # the same id again
            name = f"#{index}"
        above = name_of(entry.get("parent_message_uuid"))
        parent = before if not is_tree else above if above in names else None
        nodes[name] = Node(_messages(entry, index), parent)
        before = name
    connect(nodes, {})
    return nodes


def _messages(entry: Mapping[str, Any], index: int) -> tuple[Message, ...]:
    """The messages of one entry: a result of a tool ends the message before it. Raises Unusable."""
    role = entry.get("sender", entry.get("role"))
    turns: list[dict[str, Any]] = []
    for block in _blocks(entry):
        is_result = block.get("type") == "tool_result"
        last = turns[-1] if turns else None
        if last is None or (last["content"][-1].get("type") == "tool_result") != is_result:
            turns.append(last := {"role": role, "content": [], "timestamp": entry.get("created_at")})
        last["content"].append(block)
    turns = turns or [{"role": role, "content": "", "timestamp": entry.get("created_at")}]
    messages = messages_of(turns)
    return tuple(replace(message, source_index=index) for message in (as_cut(messages) if is_cut(entry) else messages))


def _blocks(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a message with its attachments. Older exports have only `text`."""
    content = structured(entry.get("content"))
    if isinstance(content, list):
        blocks = [dict(block) for block in content if isinstance(block, Mapping)]
        blocks = [_spoken(block) for block in blocks if block.get("type") not in _NO_CONTENT]
    else:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) and content else []
    text = entry.get("text")
    if not blocks and text is not None:
        if not isinstance(text, str):
            raise Unusable(Reason.BAD_CONTENT, f"the text of a message is {json_kind(text)}")
        blocks = [{"type": "text", "text": text}]
    return [*blocks, *_attached(entry)]


def _spoken(block: dict[str, Any]) -> dict[str, Any]:
    """A voice note as the text that it holds; any other block as it is."""
    return {**block, "type": "text"} if block.get("type") == "voice_note" else block


def _attached(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield pasted text as text, and a mark for any other file."""
    for key in ("attachments", "files", "files_v2"):
        listed = structured(entry.get(key))
        if key == "files_v2" and entry.get("files"):
            return  # the same files again
        for file in listed if isinstance(listed, list) else ():
            if not isinstance(file, Mapping):
                continue
            text = file.get("extracted_content")
            if isinstance(text, str) and text.strip():
                yield {"type": "text", "text": text}
                continue
            is_image = file.get("file_kind") == "image" or str(file.get("file_name")).lower().endswith(_IMAGES)
            yield {"type": "image" if is_image else "file"}
