"""`ConversationDraft`, what a reader makes of a row; `finish`, which turns a draft into a Conversation; and the
functions with which readers read messages, roles, times and ids.

Messages keep the log's order, also where one role speaks twice in a row or the assistant speaks first (shared chats are
often cut): merging them would lose `source_index`, and a reply without a request never becomes a pair anyway.
A conversation without a user's message is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import orjson

from drift.logs.files.rows import MAX_ROW_BYTES, Place, Unusable, encodable, short_form
from drift.records import Conversation, Message, Rating, RatingKind, Reason, Role, Split, stable_hash

ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "agent": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
# Types of message parts in the APIs of OpenAI and Anthropic and in OpenTelemetry. Without text for the user:
_NO_TEXT = (
    "tool_use", "server_tool_use", "mcp_tool_use", "tool_call", "function_call", "thinking", "redacted_thinking",
    "reasoning",
)  # fmt: skip
# Something to look at or listen to:
_MEDIA = (
    "image", "image_url", "input_image", "output_image", "file", "input_file", "document", "blob", "uri", "audio",
    "audio_url", "input_audio", "output_audio", "video", "video_url", "input_video",
)  # fmt: skip
# The result of a tool:
_TOOL_RESULTS = ("tool_result", "tool_call_response", "function_call_output")
_MAX_SECONDS = 1e11  # since 1970; a larger number is in milli-, micro- or nanoseconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = (datetime(1, 1, 2, tzinfo=UTC) - _EPOCH).total_seconds()
_LAST_SECOND = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH).total_seconds()
_PERCENT: dict[Split, int] = {"train": 80, "stop": 5, "validation": 5, "test": 10}
_rank = attrgetter("rank")
_SPLITS: list[Split] = [split for split, percent in _PERCENT.items() for _ in range(percent)]


@dataclass(frozen=True, slots=True)
class Call:
    """How a record of one model call can be matched with others: `session`; `ids`, by which feedback refers to it;
    `started`, in seconds since 1970; `trace`, everything done for one request. Calls are stitched to conversations.

    `spare`: above 0 for a record around model calls (a whole trace is 1, a step in it 2). It is used only if its trace
    has no model call in the logs, and of several in one trace only the first with the lowest number.
    """

    session: str | None = None
    ids: tuple[str, ...] = ()
    started: float = 0.0
    trace: str | None = None
    spare: int = 0


@dataclass(slots=True)  # a frozen one takes three times as long to make
class ConversationDraft:
    """A conversation as a reader understood the row at `at`.

    `identity_until`: if the log gives no id, the index of the last message that the identity is computed from; None
    means the first reply. `family`: the source's name for all paths of one tree, or all chats of one session; they
    share a split. `root`: like `family` for the split only, as other users may share it. `rows`: how many rows of the
    file this accounts for; of several paths in one row, only the first counts it. `reply_ids`: the log's ids of replies
    with their index, if judgements in other rows refer to them (see judgements.py).
    """

    at: Place
    messages: tuple[Message, ...]
    source_id: str | None = None
    user: str | None = None
    model: str | None = None
    language: str | None = None
    started_at: str | None = None
    ratings: tuple[Rating, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    identity_until: int | None = None
    family: str | None = None
    root: str | None = None
    call: Call | None = None
    rows: int = 1
    file: str = ""
    tools: str | None = None
    reply_ids: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """A judgement of a reply, in a row of its own. `about`: ids of the judged call, the most exact first.

    `value` is the log's. `scale` names the score: which values are good shows only from all values of that score.
    Without a scale, the sign of `value` is the judgement. `stars`: the score's name speaks of stars or the like, so
    that 1 is the lowest value.
    """

    at: Place
    about: tuple[str, ...]
    kind: RatingKind
    value: float
    scale: str | None = None
    comment: str | None = None
    preferred: str | None = None
    rows: int = 1
    stars: bool = False


def finish(draft: ConversationDraft, source: str, user_key: Callable[[str], str]) -> Conversation:
    """Turn a draft into a Conversation with identity and split. Raises Unusable if no pair can come from it."""
    if "user" not in [message.role for message in draft.messages]:
        raise Unusable(Reason.NO_USER_TURN, f"{len(draft.messages)} messages, none by a user")
    if sum([len(message.content) for message in draft.messages]) > MAX_ROW_BYTES:
        raise Unusable(Reason.TOO_LARGE, f"more than {MAX_ROW_BYTES} characters in one conversation")
    conversation_id = _identity(draft, source)
    family = None if draft.family is None else stable_hash(source, draft.family)
    return Conversation(
        conversation_id=conversation_id,
        source=source,
        source_id=draft.source_id,
        messages=draft.messages,
        split=split_of(family or (conversation_id if draft.root is None else stable_hash(source, draft.root))),
        user_key=None if draft.user is None else user_key(draft.user),
        model=draft.model,
        language=draft.language,
        started_at=draft.started_at,
        ratings=tuple(sorted(draft.ratings, key=_rank)) if draft.ratings else (),
        tags=draft.tags,
        family=family,
        tools=draft.tools,
    )


def split_of(conversation_id: str) -> Split:
    """The split by hash: train 80 %, stop 5 %, validation 5 %, test 10 %. A conversation never changes its split."""
    return _SPLITS[int(stable_hash("split", conversation_id), 16) % len(_SPLITS)]


def _identity(draft: ConversationDraft, source: str) -> str:
    if draft.source_id is not None:
        return stable_hash(source, draft.source_id)
    last = _first_reply(draft.messages) if draft.identity_until is None else draft.identity_until
    # calls without text do not count: earlier versions left them out, and a conversation keeps its identity
    beginning = [
        (message.role, message.content)
        for message in draft.messages[: last + 1]
        if message.content or not message.tool_calls
    ]
    # Many chats begin alike: those of different users must not replace each other.
    return stable_hash(source, beginning) if draft.user is None else stable_hash(source, draft.user, beginning)


def _first_reply(messages: Sequence[Message]) -> int:
    """The index of the first reply to a user that has a text; of the last message if there is none."""
    has_request = False
    for index, message in enumerate(messages):
        if has_request and message.role == "assistant" and (message.content or not message.tool_calls):
            return index
        has_request = has_request or message.role == "user"
    return len(messages) - 1


def messages_of(entries: Any) -> tuple[Message, ...]:
    """Read a log's list of messages, as `{role, content}` or `{from, value}`. Tool calls have no text: left out.

    Raises Unusable if it is not a list of such messages.
    """
    entries = structured(entries)
    if not isinstance(entries, (list, tuple)) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "not a list of messages" if entries else "an empty list of messages")
    messages: list[Message] = []
    for index, entry in enumerate(entries):
        content = (entry.get("content") or entry.get("value")) if isinstance(entry, dict) else ""
        if isinstance(content, list) or (not content and isinstance(entry, dict)):
            messages += _uncommon(entry, content, index)
        else:
            messages.append(message_of(entry, index))
    return tuple(messages)


def _uncommon(entry: dict[str, Any], content: Any, index: int) -> list[Message]:
    """The messages of an entry with parts, or without content: tool calls are left out; a tool's result, which
    Anthropic and OpenTelemetry write into a user's message, becomes a message of its own."""
    if not content and (entry.get("tool_calls") or entry.get("function_call")):
        return []
    if not isinstance(content, list):
        refusal = entry.get("refusal") if content is None else None
        return [message_of({**entry, "content": refusal} if isinstance(refusal, str) else entry, index)]
    kinds = [part.get("type") if isinstance(part, Mapping) else None for part in content]
    results = [_tool_result(part) for part, kind in zip(content, kinds, strict=True) if kind in _TOOL_RESULTS]
    rest = [
        part for part, kind in zip(content, kinds, strict=True) if kind not in _TOOL_RESULTS and kind not in _NO_TEXT
    ]
    when = time_of(entry.get("timestamp")) if results else None
    messages = [Message("tool", text, when, index) for text in results]
    if len(rest) == len(content) or _text_of_parts(rest) is not None:
        messages.append(message_of({**entry, "content": rest}, index))
    return messages


def message_of(entry: Any, index: int) -> Message:
    """Read one message; `index` is its place in the log's list. Raises Unusable."""
    if not isinstance(entry, dict):
        raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is a {type(entry).__name__}")
    name = entry["role"] if "role" in entry else entry.get("from")
    role = (ROLES.get(name) or ROLES.get(name.lower())) if isinstance(name, str) else None
    if role is None:
        raise Unusable(Reason.UNKNOWN_ROLE, f"message {index} has role {short_form(name)}; allowed: {', '.join(ROLES)}")
    content = entry["content"] if "content" in entry else entry.get("value")
    text = encodable(content) if isinstance(content, str) else text_of(content, f"message {index}")
    return Message(role, text, time_of(entry.get("timestamp")), index)


def text_of(content: Any, what: str) -> str:
    """The text of a message's content: a string, or the text parts of a list, joined. Raises Unusable.

    Only images, files or sound give an empty text: the message stays in its place, but no pair is made of it.
    """
    if isinstance(content, list):
        content = _text_of_parts(content) if content else ""
    if isinstance(content, bytes):
        content = content.decode(errors="replace")
    if not isinstance(content, str):
        raise Unusable(Reason.BAD_CONTENT, f"{what} is not a text: {type(content).__name__}")
    return encodable(content)


def reply_of(reply: Mapping[str, Any]) -> str | None:
    """The text of a model's reply; None if the model only called a tool, or failed. Raises Unusable."""
    content = reply.get("content")
    if content is None and isinstance(reply.get("refusal"), str):
        return encodable(reply["refusal"])
    if content is None or reply.get("tool_calls"):
        return None
    if isinstance(content, list):
        rest = [part for part in content if not isinstance(part, Mapping) or part.get("type") not in _NO_TEXT]
        if len(rest) < len(content) and _text_of_parts(rest) is None:
            return None
    return text_of(content, "the reply")


def structured(value: Any) -> Any:
    """Parse a list or an object that a column or an attribute holds as JSON text; return anything else as it is."""
    if isinstance(value, str | bytes) and value[:1] in ("[", "{", b"[", b"{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def time_of(value: Any) -> str | None:
    """A log's time: a string as it is, an object or a number (see `seconds_of`) in ISO 8601."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int | float):
        seconds = seconds_of(value)
        return None if seconds is None else (_EPOCH + timedelta(seconds=seconds)).isoformat()
    return name_of(value)


def seconds_of(value: Any) -> float | None:
    """Seconds since 1970, from ISO 8601 or a number of seconds, milli-, micro- or nanoseconds.

    None if it is none of these, or outside the years 1 to 9999.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.lstrip("-").isdecimal() and len(text) < 25:
            return seconds_of(int(text)) if len(text) > 8 else None
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    for unit in (1, 1e3, 1e6, 1e9):
        if abs(value) < _MAX_SECONDS * unit:
            return value / unit if _FIRST_SECOND <= value / unit <= _LAST_SECOND else None
    return None


def name_of(value: Any) -> str | None:
    """An id or a name as a string; None if the log has none.

    Tables with gaps give whole numbers as floats. Floats beyond 2**53 cannot be ids: different ids became equal.
    """
    if isinstance(value, str):
        return encodable(value) or None
    if isinstance(value, bytes):
        return encodable(value.decode(errors="backslashreplace")) or None
    if isinstance(value, float) and abs(value) < 2**53:
        return str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _text_of_parts(parts: Sequence[Any]) -> str | None:
    """The texts of the parts, joined; "" if there are only media; None if no part has a known type."""
    mappings = [part for part in parts if isinstance(part, Mapping)]
    texts = [text for part in mappings if (text := _part_text(part)) is not None]
    return "\n".join(texts) if texts else "" if any(part.get("type") in _MEDIA for part in mappings) else None


def _part_text(part: Mapping[str, Any]) -> str | None:
    """The text of one part, as OpenAI's APIs (`text`, `refusal`) and OpenTelemetry (`content`) write it."""
    kind = part.get("type")
    if kind not in ("text", "input_text", "output_text"):
        return part.get("refusal") if kind == "refusal" and isinstance(part.get("refusal"), str) else None
    text = part.get("text", part.get("content"))
    return text if isinstance(text, str) else None


def _tool_result(part: Mapping[str, Any]) -> str:
    """The text of a part that holds a tool's result."""
    names = ("content", "response", "result", "output")
    return tool_text(next((part[name] for name in names if part.get(name) is not None), ""))


def tool_text(result: Any) -> str:
    """A tool's result as text: the text itself, that of its parts, or JSON. Raises Unusable if none is possible."""
    if isinstance(result, list) and (text := _text_of_parts(result)) is not None:
        return encodable(text)
    try:
        return encodable(result if isinstance(result, str) else orjson.dumps(result, default=str).decode())
    except orjson.JSONEncodeError as error:
        raise Unusable(Reason.BAD_CONTENT, f"the result of a tool cannot be written as JSON: {error}") from None
