"""`ConversationDraft`, what a reader makes of a row; `finish`, which turns a draft into a Conversation.

Messages keep the log's order, also where one role speaks twice in a row or the assistant speaks first (shared chats are
often cut): merging them would lose `source_index`, and a reply without a request never becomes a pair anyway.
A conversation without a user's message is refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from drift.logs.entries import ROLES, RoleWords, as_cut, last_reply, message_of, messages_in, messages_of, replies_of
from drift.logs.files.rows import MAX_ROW_BYTES, Place, Unusable
from drift.logs.parts import MEDIA_MARKS, call_of, text_of, tool_text, tools_of
from drift.logs.values import has, has_any, is_cut, name_of, seconds_of, structured, time_of, truth_of
from drift.records import Conversation, Message, Rating, RatingKind, Reason, Split, stable_hash, tag_of_all

__all__ = [
    "ROLES", "Call", "ConversationDraft", "Evidence", "RoleWords", "as_cut", "call_of", "finish", "has", "has_any",
    "is_cut", "last_reply", "message_of", "messages_in", "messages_of", "name_of", "numbered", "replies_of",
    "seconds_of", "split_of", "structured", "tags_of_all", "text_of", "time_of", "tool_text", "tools_of", "truth_of",
]  # fmt: skip
"""Readers import from here what they read entries and values with."""

_PERCENT: dict[Split, int] = {"train": 80, "stop": 5, "validation": 5, "test": 10}
_rank = attrgetter("rank")
_SPLITS: list[Split] = [split for split, percent in _PERCENT.items() for _ in range(percent)]


@dataclass(frozen=True, slots=True)
class Call:
    """How a record of one model call can be matched with others: `session`; `ids`, by which feedback refers to it;
    `started`, in seconds since 1970; `trace`, everything done for one request. Calls are stitched to conversations.

    `after`: the id of the call before it, if the record leaves out its history. `spare`: above 0 for a record around
    model calls (a whole trace is 1, a step in it 2). It is used only if its trace has no model call in the logs, and of
    several in one trace only the first with the lowest number. Its session, its user and its tags are also those of the
    calls of its trace that name none; it has no messages if it is read for these alone.
    """

    session: str | None = None
    ids: tuple[str, ...] = ()
    started: float = 0.0
    trace: str | None = None
    spare: int = 0
    after: str | None = None


@dataclass(slots=True)  # a frozen one takes three times as long to make
class ConversationDraft:
    """A conversation as a reader understood the row at `at`.

    `identity_until`: if the log gives no id, the index of the last message that the identity is computed from; None
    means the first reply. `family`: the source's name for all paths of one tree, or all chats of one session; they
    share a split. `root`: like `family` for the split only, as other users may share it. `rows`: how many rows of the
    file this accounts for; of several paths in one row, only the first counts it. `reply_ids`: the log's ids of replies
    with their index, if judgements in other rows refer to them (see judgements.py). `chat_id`: the log's id of a chat
    of which several rows may hold different exchanges. It is the `source_id` if there is no other, but then only
    together with the beginning the identity, and the `family`. `of_rows`: each of several rows holds a message or an
    exchange of it, so that this may be a part of the chat; a row with a whole chat never is. `prefill`: of a request
    whose reply is in another row, the index of its last message if the reply begins with that.
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
    chat_id: str | None = None
    of_rows: bool = False
    prefill: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A judgement of a reply, in a row of its own. `about`: ids of the judged call, the most exact first.

    `value` is the log's. `scale` names the score: which values are good shows only from all values of that score.
    Without a scale, the sign of `value` is the judgement. `stars`: the score's name speaks of stars or the like, so
    that 1 is the lowest value. `when`: the time of the judgement, in seconds since 1970, 0 if the log has none. Of two
    of one kind about one reply the later one counts, else the one that stands later in the logs.
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
    when: float = 0.0


def numbered(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Messages out of several lists, with their place in the conversation as `source_index`: the tag `media_turns`
    would otherwise name messages of other lists too. A system message from beside the lists keeps its None."""
    return tuple(
        message if message.source_index is None and message.role == "system" else replace(message, source_index=place)
        for place, message in enumerate(messages)
    )


def tags_of_all(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The tags of the rows of one conversation. Rows that contradict each other about a consent give none: all their
    values, which is not the one that is required."""
    values: dict[str, dict[str, None]] = {}
    for of_row in tags:
        for name, value in of_row.items():
            values.setdefault(name, {})[value] = None
    return {name: tag_of_all(of_name) for name, of_name in values.items()}


def finish(draft: ConversationDraft, source: str, user_key: Callable[[str], str]) -> Conversation:
    """Turn a draft into a Conversation with identity and split. Raises Unusable if no pair can come from it."""
    messages = draft.messages
    if "user" not in [message.role for message in messages]:
        raise Unusable(Reason.NO_USER_TURN, "no message is a user's")
    # Most messages have none of these.
    rare = [m for m in messages if m.tool_calls or m.reasoning or m.has_media or m.is_cut]
    if (sum([m.size for m in messages]) if rare else sum([len(m.content) for m in messages])) > MAX_ROW_BYTES:
        raise Unusable(Reason.TOO_LARGE, f"more than {MAX_ROW_BYTES} characters in one conversation")
    draft = _with_named_turns(draft) if rare and any(m.has_media or m.is_cut for m in rare) else draft
    conversation_id = _identity(draft, source)
    named = draft.chat_id if draft.family is None else draft.family
    family = None if named is None else stable_hash(source, named)
    return Conversation(
        conversation_id=conversation_id,
        source=source,
        source_id=draft.chat_id if draft.source_id is None else draft.source_id,
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
        of_rows=draft.of_rows,
    )


def split_of(conversation_id: str) -> Split:
    """The split by hash: train 80 %, stop 5 %, validation 5 %, test 10 %. A conversation never changes its split."""
    return _SPLITS[int(stable_hash("split", conversation_id), 16) % len(_SPLITS)]


def _identity(draft: ConversationDraft, source: str) -> str:
    if draft.source_id is not None:
        return stable_hash(source, draft.source_id)
    last = _first_reply(draft.messages) if draft.identity_until is None else draft.identity_until
    # What earlier versions left out does not count, so that ids stay: calls without text, marks of media, and a
    # system message from beside the list.
    flagged = set(draft.tags.get("media_turns", "").split(","))
    beginning = [
        (message.role, _without_marks(message.content) if str(message.source_index) in flagged else message.content)
        for message in draft.messages[: last + 1]
        if message.content or not message.tool_calls
        if message.role != "system" or message.source_index is not None
    ]
    # Many chats begin alike: those of different users must not replace each other.
    names = [name for name in (draft.chat_id, draft.user) if name is not None]
    return stable_hash(source, *names, beginning)


def _with_named_turns(draft: ConversationDraft) -> ConversationDraft:
    """The draft whose tags `media_turns` and `cut_turns` name the messages with media, and the replies that did not end
    by themselves, by their place in the log."""
    tags = {
        tag: ",".join(dict.fromkeys(str(m.source_index) for m in draft.messages if flag(m)))
        for tag, flag in (("media_turns", attrgetter("has_media")), ("cut_turns", attrgetter("is_cut")))
    }
    plain = tuple(replace(m, has_media=False, is_cut=False) if m.has_media or m.is_cut else m for m in draft.messages)
    return replace(draft, messages=plain, tags={**draft.tags, **{tag: turns for tag, turns in tags.items() if turns}})


def _without_marks(content: str) -> str:
    return "\n".join(line for line in content.split("\n") if line not in MEDIA_MARKS)


def _first_reply(messages: Sequence[Message]) -> int:
    """The index of the first reply to a user that has a text; of the last message if there is none."""
    has_request = False
    for index, message in enumerate(messages):
        if has_request and message.role == "assistant" and (message.content or not message.tool_calls):
            return index
        has_request = has_request or message.role == "user"
    return len(messages) - 1
