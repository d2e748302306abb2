"""A conversation as a reader understood it, and what is made of it: clean text, known roles, an identity and a split.

Decisions about roles: messages keep the log's order, also where one role speaks twice in a row or the assistant speaks
first (shared chats are often cut), because merging would lose `source_index`; a reply without a request simply never
becomes a pair. A conversation in which no user speaks is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from drift.logs.rows import MAX_ROW_BYTES, Place, Unusable
from drift.records import Conversation, Message, Rating, Reason, Role, Split, stable_hash

ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "agent": "assistant",
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
_SPLITS: tuple[tuple[int, Split], ...] = ((80, "train"), (85, "stop"), (90, "validation"), (100, "test"))


@dataclass(frozen=True, slots=True)
class Draft:
    """What a reader found in the row at `at`.

    `identity_until`: where the log gives no id, the index of the last message that tells conversations apart; None is
    the first reply.
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


def finish(draft: Draft, source: str, user_key: Callable[[str], str]) -> Conversation:
    """Give a draft its identity and split. Raises Unusable if it is none that a pair could come from."""
    if not any(message.role == "user" for message in draft.messages):
        raise Unusable(Reason.NO_USER_TURN, f"{len(draft.messages)} messages, none by a user")
    if sum(len(message.content) for message in draft.messages) > MAX_ROW_BYTES:
        raise Unusable(Reason.TOO_LARGE, f"more than {MAX_ROW_BYTES} characters in one conversation")
    conversation_id = _identity(draft, source)
    return Conversation(
        conversation_id=conversation_id,
        source=source,
        source_id=draft.source_id,
        messages=draft.messages,
        split=split_of(conversation_id),
        user_key=None if draft.user is None else user_key(draft.user),
        model=draft.model,
        language=draft.language,
        started_at=draft.started_at,
        ratings=draft.ratings,
        tags=draft.tags,
    )


def split_of(conversation_id: str) -> Split:
    """train 80 %, stop 5 %, validation 5 %, test 10 %, by hash: a conversation never changes its split."""
    percent = int(stable_hash("split", conversation_id), 16) % 100
    return next(split for limit, split in _SPLITS if percent < limit)


def _identity(draft: Draft, source: str) -> str:
    if draft.source_id is not None:
        return stable_hash(source, draft.source_id)
    last = _first_reply(draft.messages) if draft.identity_until is None else draft.identity_until
    return stable_hash(source, [(message.role, message.content) for message in draft.messages[: last + 1]])


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
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise Unusable(Reason.NO_MESSAGES, "no list of messages" if entries else "an empty list of messages")
    return tuple(message_of(entry, index) for index, entry in enumerate(entries) if not _is_tool_call(entry))


def message_of(entry: Any, index: int) -> Message:
    """One message; `index` is its place in the log's own list. Raises Unusable."""
    if not isinstance(entry, Mapping):
        raise Unusable(Reason.NOT_AN_OBJECT, f"message {index} is a {type(entry).__name__}")
    name = entry.get("role", entry.get("from"))
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise Unusable(Reason.UNKNOWN_ROLE, f"message {index} has role {name!r}; known: {', '.join(ROLES)}")
    content = text_of(entry.get("content", entry.get("value")), f"message {index}")
    return Message(role, content, timestamp=time_of(entry.get("timestamp")), source_index=index)


def text_of(content: Any, what: str) -> str:
    """The text of a message's content: a string, or parts of which the text parts are joined. Raises Unusable."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        content = "\n".join(part for part in parts if isinstance(part, str)) if parts else None
    if not isinstance(content, str):
        raise Unusable(Reason.BAD_CONTENT, f"{what} holds no text but {type(content).__name__}")
    return _encodable(content)


def time_of(value: Any) -> str | None:
    """A log's time as it is written, or in ISO 8601 where it is an object or seconds (milliseconds) since 1970."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value / 1000 if value > 1e11 else value
        return datetime.fromtimestamp(seconds, UTC).isoformat() if 0 <= seconds < 1e11 else None
    return name_of(value)


def name_of(value: Any) -> str | None:
    """An id or a name as a string; None where the log has none."""
    if isinstance(value, str):
        return _encodable(value) or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _encodable(text: str) -> str:
    """Halves of surrogate pairs become U+FFFD, because Parquet holds UTF-8; null bytes stay."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _is_tool_call(entry: Any) -> bool:
    calls = isinstance(entry, Mapping) and (entry.get("tool_calls") or entry.get("function_call"))
    return bool(calls) and not entry.get("content")
