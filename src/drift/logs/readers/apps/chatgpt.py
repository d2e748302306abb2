"""ChatGPT's export: conversations.json, a tree of nodes in `mapping`; and message_feedback.json, the thumbs.

A node holds one message: text, thoughts, a call of a tool (its `recipient` is the tool), a tool's answer. Custom
instructions, memories and other texts that the user did not see become system messages; files that the user attached
stand in the metadata; empty nodes only hold the tree together. A reply that the app offered beside another one
(`paragen_variants_info`) is no regeneration.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from drift.logs.convert import Outcome, many_per_row
from drift.logs.draft import ConversationDraft, Evidence, messages_of, name_of, structured, time_of, truth_of
from drift.logs.files.rows import LogRow, Reject, Unusable, json_kind
from drift.logs.readers.apps.deepseek import is_message as is_deepseek
from drift.logs.traces.verdicts import dated, judgement
from drift.logs.trees import Node, connect, paths
from drift.logs.unread import EACH, keys
from drift.records import Message, Reason

_MEDIA = {"image_asset_pointer": "image", "audio_asset_pointer": "audio", "video_container_asset_pointer": "video"}
_VOICE = "real_time_user_audio_video_asset_pointer"
_TEXTS = ("text", "result", "content", "summary", "model_set_context")
_CONTEXT = ("user_profile", "user_instructions")
_MEMORY = "model_editable_context"  # of the user; the assistant is its author, but it is no reply
_UNFINISHED = ("in_progress", "finished_partial_completion")
_SHOWN_ONLY = ("reasoning_recap",)  # "Thought for 5 seconds": the model did not write it
_MAX_STEPS_TO_CALL = 20

_CONTENT = keys(f"content_type parts thoughts {' '.join((*_TEXTS, *_CONTEXT))}")
_MESSAGE = keys("author role create_time metadata recipient channel status", content=_CONTENT)
KEYS = keys(
    "conversation_id id default_model_slug create_time current_node rating message_id content",
    mapping={EACH: keys("parent children", message=_MESSAGE)},
)


def recognises(row: Mapping[str, Any]) -> bool:
    return _is_chat(row) or is_feedback(row)


def read(rows: Iterable[LogRow | Reject]) -> Iterator[Outcome]:
    return many_per_row(rows, _outcomes)


def is_feedback(row: Mapping[str, Any]) -> bool:
    rating = row.get("rating")
    is_thumb = isinstance(rating, str) and rating.lower().replace("_", "").startswith("thumbs")
    return is_thumb and "conversation_id" in row and bool(row.keys() & {"id", "message_id"})


def _is_chat(row: Mapping[str, Any]) -> bool:
    nodes = structured(row.get("mapping"))
    if not isinstance(nodes, Mapping):
        return False
    entries = [node for node in nodes.values() if isinstance(node, Mapping)]
    if any(is_deepseek(node.get("message")) for node in entries):
        return False
    return any({"message", "parent"} <= node.keys() for node in entries) or "current_node" in row


def _outcomes(row: LogRow) -> Iterator[Outcome]:
    if is_feedback(row.value):
        yield _feedback(row)
        return
    value = row.value
    entries = structured(value.get("mapping"))
    if not isinstance(entries, Mapping) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "a chat without nodes in its mapping")
    chat = name_of(value.get("conversation_id")) or name_of(value.get("id")) or next(iter(entries))
    model, started_at = name_of(value.get("default_model_slug")), time_of(value.get("create_time"))
    for outcome in paths(row.at, _nodes(entries), name_of(value.get("current_node")), chat):
        is_draft = isinstance(outcome, ConversationDraft)
        yield replace(outcome, model=outcome.model or model, started_at=started_at) if is_draft else outcome


def _feedback(row: LogRow) -> Evidence:
    """A thumb. `content` is JSON text with what the user wrote and chose."""
    value = row.value
    about = [name_of(value.get(key)) for key in ("message_id", "id")]
    content = structured(value.get("content"))
    remark = content.get("text") if isinstance(content, Mapping) else None
    tags = content.get("tags") if isinstance(content, Mapping) else None
    words = [*(tags if isinstance(tags, list) else ()), remark]
    comment = ": ".join(word for word in words if isinstance(word, str) and word.strip())
    word = "thumbs_up" if "up" in value["rating"].lower() else "thumbs_down"
    return dated(judgement(row.at, about, "user_feedback", None, word, comment), value)


def _nodes(entries: Mapping[str, Any]) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for index, (name, entry) in enumerate(entries.items()):
        if not isinstance(entry, Mapping):
            raise Unusable(Reason.NOT_AN_OBJECT, f"node {index} is {json_kind(entry)}")
        message = entry.get("message")
        if message is not None and not isinstance(message, Mapping):
            raise Unusable(Reason.NOT_AN_OBJECT, f"the message of node {index} is {json_kind(message)}")
        parent = name_of(entry.get("parent"))
        metadata = _mapping(message, "metadata")
        nodes[name] = Node(
            () if message is None else _messages(message, name, index, entries, parent),
            parent if parent in entries else None,
            name_of(metadata.get("model_slug")),
            seat=None if metadata.get("paragen_variants_info") else "",
        )
    connect(nodes, {name: entry.get("children") for name, entry in entries.items()})
    return nodes


def _messages(
    message: Mapping[str, Any], name: str, index: int, nodes: Mapping[str, Any], parent: str | None
) -> tuple[Message, ...]:
    """The message of a node; none if it holds nothing. Raises Unusable."""
    author, content = _mapping(message, "author"), message.get("content")
    if content is not None and not isinstance(content, Mapping):
        raise Unusable(Reason.BAD_CONTENT, f"the content of node {index} is {json_kind(content)}")
    content = content or {}
    kind, role = content.get("content_type"), author.get("role", message.get("role"))
    hidden = truth_of(_mapping(message, "metadata").get("is_visually_hidden_from_conversation"))
    parts = _parts(content)
    recipient = message.get("recipient")
    entry: dict[str, Any] = {"role": role, "content": parts, "timestamp": message.get("create_time")}
    if kind in _SHOWN_ONLY:
        return ()
    if kind == _MEMORY:
        entry["role"] = "system"
    elif role == "assistant":
        ended = _mapping(message, "metadata").get("finish_details")
        entry["finish_details"] = {"type": "interrupted"} if message.get("status") in _UNFINISHED else ended
        if kind == "thoughts" or (message.get("channel") == "analysis" and recipient in (None, "all")):
            entry |= {"content": "", "reasoning_content": "\n".join(part.get("text", "") for part in parts)}
            parts = [entry["reasoning_content"]] if entry["reasoning_content"].strip() else []
        elif isinstance(recipient, str) and recipient not in ("all", "user", "assistant"):
            arguments = "\n".join(part.get("text", "") for part in parts)
            function = {"name": recipient, "arguments": _arguments(arguments)}
            entry |= {"content": "", "tool_calls": [{"id": name, "type": "function", "function": function}]}
            parts = [function]
        elif hidden:
            return ()
    elif role == "tool":
        entry |= {"name": author.get("name"), "tool_call_id": _call_above(nodes, parent)}
    elif role == "user" and (hidden or kind == "user_editable_context"):
        entry["role"] = "system"
    elif role == "user":
        parts += _attached(_mapping(message, "metadata").get("attachments"), parts)
    if not parts:
        return ()
    return tuple(replace(one, source_index=index) for one in messages_of([entry]))


def _mapping(holder: Any, key: str) -> Mapping[str, Any]:
    value = holder.get(key) if isinstance(holder, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _arguments(text: str) -> str:
    """The arguments as JSON: what the model wrote if it is an object, else (code, a search) an object around it."""
    return text if isinstance(structured(text.strip()), dict) else orjson.dumps({"input": text}).decode()


def _call_above(nodes: Mapping[str, Any], name: str | None) -> str | None:
    """The node of the call that a tool answers: the nearest one above, within the turn."""
    for _ in range(_MAX_STEPS_TO_CALL):
        node = nodes.get(name) if name is not None else None
        message = node.get("message") if isinstance(node, Mapping) else None
        role = _mapping(message, "author").get("role")
        if not isinstance(node, Mapping) or role == "user":
            return None
        if role == "assistant" and isinstance(message, Mapping) and message.get("recipient") not in (None, "all"):
            return name
        name = name_of(node.get("parent"))
    return None


def _parts(content: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a node holds, as parts: texts and marks of media; [] if it is empty."""
    kind = content.get("content_type")
    if kind == "user_editable_context":
        texts = [content.get(key) for key in _CONTEXT]
    elif kind == "thoughts":
        thoughts = content.get("thoughts")
        texts = [
            thought.get("content") or thought.get("summary")
            for thought in (thoughts if isinstance(thoughts, list) else ())
            if isinstance(thought, Mapping)
        ]
    elif isinstance(content.get("parts"), list):
        return _of_list(content["parts"])
    else:
        texts = [next((content[key] for key in _TEXTS if isinstance(content.get(key), str)), None)]
    return [_text(text) for text in texts if isinstance(text, str) and text.strip()]


def _of_list(parts: list[Any]) -> list[dict[str, str]]:
    """The parts of text and multimodal_text. Spoken words stand beside their sound: then the sound leaves no mark."""
    found: list[dict[str, str]] = []
    kinds = [part.get("content_type") if isinstance(part, Mapping) else None for part in parts]
    for part, kind in zip(parts, kinds, strict=True):
        if isinstance(part, str):
            found += [_text(part)] if part.strip() else []
        elif isinstance(part, Mapping):
            if isinstance(part.get("text"), str):
                found += [_text(part["text"])] if part["text"].strip() else []
            elif kind not in ("audio_asset_pointer", _VOICE) or "audio_transcription" not in kinds:
                found.append({"type": "audio" if kind == _VOICE else _MEDIA.get(str(kind), "file")})
        elif part is not None:
            raise Unusable(Reason.BAD_CONTENT, f"a part of a message is {json_kind(part)}")
    return found


def _attached(attachments: Any, parts: list[dict[str, str]]) -> list[dict[str, str]]:
    """A mark for each attached file. Images that the model saw also stand among the parts."""
    listed = structured(attachments)
    files = [file for file in listed if isinstance(file, Mapping)] if isinstance(listed, list) else []
    kinds = [str(file.get("mimeType", file.get("mime_type"))).partition("/")[0] for file in files]
    wanted = Counter(kind if kind in _MEDIA.values() else "file" for kind in kinds)
    wanted.subtract(part["type"] for part in parts if part["type"] in wanted)
    return [{"type": kind} for kind, count in wanted.items() for _ in range(count)]


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
