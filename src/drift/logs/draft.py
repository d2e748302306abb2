"""A conversation as a reader understood it, and what is made of it: clean text, known roles, an identity and a split.

Decisions about roles: messages keep the log's order, also where one role speaks twice in a row or the assistant speaks
first (shared chats are often cut), because merging would lose `source_index`; a reply without a request simply never
becomes a pair. A conversation in which no user speaks is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import orjson

from drift.logs.files.rows import MAX_ROW_BYTES, Place, Unusable, encodable, shown
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
# Parts of a message, as OpenAI's APIs, Anthropic's and OpenTelemetry name them: they hold no text, ...
_SILENT = (
    "tool_use", "server_tool_use", "mcp_tool_use", "tool_call", "function_call", "thinking", "redacted_thinking",
    "reasoning",
)  # fmt: skip
# ... or something to look at or listen to, ...
_MEDIA = (
    "image", "image_url", "input_image", "output_image", "file", "input_file", "document", "blob", "uri", "audio",
    "audio_url", "input_audio", "output_audio", "video", "video_url", "input_video",
)  # fmt: skip
# ... or are what a tool answered.
_ANSWERS = ("tool_result", "tool_call_response", "function_call_output")
_PLAUSIBLE_SECONDS = 1e11  # a larger number counts a smaller unit
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (datetime(1, 1, 2, tzinfo=UTC) - _EPOCH).total_seconds()
_LAST = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH).total_seconds()
_PERCENT: dict[Split, int] = {"train": 80, "stop": 5, "validation": 5, "test": 10}
_rank = attrgetter("rank")
_SPLITS: list[Split] = [split for split, percent in _PERCENT.items() for _ in range(percent)]


@dataclass(frozen=True, slots=True)
class Call:
    """What a record of one model call knows of itself: its session, the ids by which feedback names it, its time
    (seconds since 1970), and the trace: what was done for one request. Calls are stitched to conversations."""

    session: str | None = None
    ids: tuple[str, ...] = ()
    started: float = 0.0
    trace: str | None = None


@dataclass(slots=True)  # a frozen one takes three times as long to make
class ConversationDraft:
    """What a reader found in the row at `at`.

    `identity_until`: where the log gives no id, the index of the last message that tells conversations apart; None is
    the first reply. `family`: the source's name for all paths of one tree, or all chats of one session, which share a
    split. `root`: what shares a split with it though it may be somebody else's. `rows`: how many rows
    of the file are accounted for by this; of the paths that one row holds, only the first counts it.
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


@dataclass(frozen=True, slots=True)
class Evidence:
    """A judgement of a reply that stands in a row of its own. `about`: ids of the call, the most exact first.

    `value` is as the log gives it; `scale` names the score, because only all of its values tell which way is good.
    Without a scale, the sign of `value` is the judgement. `stars`: the name speaks of stars or the like, of which one
    is the fewest.
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
    """Give a draft its identity and split. Raises Unusable if it is none that a pair could come from."""
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
    )


def split_of(conversation_id: str) -> Split:
    """train 80 %, stop 5 %, validation 5 %, test 10 %, by hash: a conversation never changes its split."""
    return _SPLITS[int(stable_hash("split", conversation_id), 16) % len(_SPLITS)]


def _identity(draft: ConversationDraft, source: str) -> str:
    if draft.source_id is not None:
        return stable_hash(source, draft.source_id)
    last = _first_reply(draft.messages) if draft.identity_until is None else draft.identity_until
    begun = [(message.role, message.content) for message in draft.messages[: last + 1]]
    # Many people begin alike, and what one says must not replace another's chat.
    return stable_hash(source, begun) if draft.user is None else stable_hash(source, draft.user, begun)


def _first_reply(messages: Sequence[Message]) -> int:
    """Index of the first assistant message behind a user's; the last message if there is none."""
    asked = False
    for index, message in enumerate(messages):
        if asked and message.role == "assistant":
            return index
        asked = asked or message.role == "user"
    return len(messages) - 1


def messages_of(entries: Any) -> tuple[Message, ...]:
    """A log's own list of messages, as `{role, content}` or `{from, value}`. Calls of tools hold no text: left out.

    Raises Unusable if it is no list of such messages.
    """
    entries = structured(entries)
    if not isinstance(entries, (list, tuple)) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "no list of messages" if entries else "an empty list of messages")
    found: list[Message] = []
    for index, entry in enumerate(entries):
        content = (entry.get("content") or entry.get("value")) if isinstance(entry, dict) else ""
        if isinstance(content, list) or (not content and isinstance(entry, dict)):
            found += _uncommon(entry, content, index)
        else:
            found.append(message_of(entry, index))
    return tuple(found)


def _uncommon(entry: dict[str, Any], content: Any, index: int) -> list[Message]:
    """The messages of an entry without content, or with parts: calls of tools are left out, and what tools answered
    (Anthropic and OpenTelemetry write it into a user's message) is a message of its own."""
    if not content and (entry.get("tool_calls") or entry.get("function_call")):
        return []
    if not isinstance(content, list):
        refusal = entry.get("refusal") if content is None else None
        return [message_of({**entry, "content": refusal} if isinstance(refusal, str) else entry, index)]
    kinds = [part.get("type") if isinstance(part, Mapping) else None for part in content]
    told = [_answer(part) for part, kind in zip(content, kinds, strict=True) if kind in _ANSWERS]
    rest = [part for part, kind in zip(content, kinds, strict=True) if kind not in _ANSWERS and kind not in _SILENT]
    when = time_of(entry.get("timestamp")) if told else None
    found = [Message("tool", text, when, index) for text in told]
    if len(rest) == len(content) or _text_of_parts(rest) is not None:
        found.append(message_of({**entry, "content": rest}, index))
    return found


def message_of(entry: Any, index: int) -> Message:
    """One message; `index` is its place in the log's own list. Raises Unusable."""
    if not isinstance(entry, dict):
        raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is a {type(entry).__name__}")
    name = entry["role"] if "role" in entry else entry.get("from")
    role = (ROLES.get(name) or ROLES.get(name.lower())) if isinstance(name, str) else None
    if role is None:
        raise Unusable(Reason.UNKNOWN_ROLE, f"message {index} has role {shown(name)}; known: {', '.join(ROLES)}")
    content = entry["content"] if "content" in entry else entry.get("value")
    text = encodable(content) if isinstance(content, str) else text_of(content, f"message {index}")
    return Message(role, text, time_of(entry.get("timestamp")), index)


def text_of(content: Any, what: str) -> str:
    """The text of a message's content: a string, or parts of which the text parts are joined. Raises Unusable.

    Images, files and sound alone are an empty text: the message stays in its place, and no pair is made of it.
    """
    if isinstance(content, list):
        content = _text_of_parts(content) if content else ""
    if isinstance(content, bytes):
        content = content.decode(errors="replace")
    if not isinstance(content, str):
        raise Unusable(Reason.BAD_CONTENT, f"{what} holds no text but {type(content).__name__}")
    return encodable(content)


def reply_of(reply: Mapping[str, Any]) -> str | None:
    """The text of a model's reply; None if it only called a tool, or failed. Raises Unusable."""
    content = reply.get("content")
    if content is None and isinstance(reply.get("refusal"), str):
        return encodable(reply["refusal"])
    if content is None or reply.get("tool_calls"):
        return None
    if isinstance(content, list):
        rest = [part for part in content if not isinstance(part, Mapping) or part.get("type") not in _SILENT]
        if len(rest) < len(content) and _text_of_parts(rest) is None:
            return None
    return text_of(content, "the reply")


def structured(value: Any) -> Any:
    """Lists and objects that stand in a column or an attribute as JSON text; anything else as it is."""
    if isinstance(value, str | bytes) and value[:1] in ("[", "{", b"[", b"{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def time_of(value: Any) -> str | None:
    """A log's time as it is written, or in ISO 8601 where it is an object or a number (see `seconds_of`)."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int | float):
        seconds = seconds_of(value)
        return None if seconds is None else (_EPOCH + timedelta(seconds=seconds)).isoformat()
    return name_of(value)


def seconds_of(value: Any) -> float | None:
    """Seconds since 1970 (below 0: before) of a number of seconds, milli-, micro- or nanoseconds, or of ISO 8601.

    None if it is none of these, or beyond the years 1 to 9999.
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
        if abs(value) < _PLAUSIBLE_SECONDS * unit:
            return value / unit if _FIRST <= value / unit <= _LAST else None
    return None


def name_of(value: Any) -> str | None:
    """An id or a name as a string; None where the log has none.

    Tables with gaps give whole numbers as floats. Beyond 2**53 floats are no ids: different ones have become equal.
    """
    if isinstance(value, str):
        return encodable(value) or None
    if isinstance(value, bytes):
        return encodable(value.decode(errors="backslashreplace")) or None
    if isinstance(value, float) and abs(value) < 2**53:
        return str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _text_of_parts(parts: Sequence[Any]) -> str | None:
    """Their texts, joined; "" if there is only something to look at or listen to; None if nothing in them is known."""
    known = [part for part in parts if isinstance(part, Mapping)]
    texts = [text for part in known if (text := _part_text(part)) is not None]
    return "\n".join(texts) if texts else "" if any(part.get("type") in _MEDIA for part in known) else None


def _part_text(part: Mapping[str, Any]) -> str | None:
    """Text of a part of a message, as OpenAI's APIs and OpenTelemetry (`content`) write it."""
    kind = part.get("type")
    if kind not in ("text", "input_text", "output_text"):
        return part.get("refusal") if kind == "refusal" and isinstance(part.get("refusal"), str) else None
    text = part.get("text", part.get("content"))
    return text if isinstance(text, str) else None


def _answer(part: Mapping[str, Any]) -> str:
    """What a tool answered, in a part that says so."""
    names = ("content", "response", "result", "output")
    return answer_text(next((part[name] for name in names if part.get(name) is not None), ""))


def answer_text(told: Any) -> str:
    """What a tool answered: its text, or that of its parts, or JSON. Raises Unusable if there is none of it."""
    if isinstance(told, list) and (text := _text_of_parts(told)) is not None:
        return encodable(text)
    try:
        return encodable(told if isinstance(told, str) else orjson.dumps(told, default=str).decode())
    except orjson.JSONEncodeError as error:
        raise Unusable(Reason.BAD_CONTENT, f"what a tool answered cannot be written as JSON: {error}") from None
