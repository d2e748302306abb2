"""What logs hold: conversations, their explicit ratings, and the labels of what users said about replies."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import get_args

from drift.records.messages import ChatMessage, Message
from drift.records.names import Finish, LabelSource, RatingKind, Split, Verdict

_RATING_KINDS: tuple[RatingKind, ...] = get_args(RatingKind)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def tag_of_all(values: Iterable[str]) -> str:
    """One tag from those of several rows: all their values, but the first of times, which differ without contradicting
    each other."""
    listed = list(dict.fromkeys(values))
    if len(listed) == 1 or (listed and all(map(is_moment, listed))):
        return listed[0]
    return ", ".join(dict.fromkeys(part for value in listed for part in value.split(", ")))


def is_moment(tag: str) -> bool:
    """Whether a tag is a time."""
    return _DAY.match(tag) is not None


@dataclass(frozen=True, slots=True)
class Rating:
    """An explicit judgement in the log. `value`: above 0 is approval, below 0 is disapproval.

    `preferred`: of a correction, the reply that the user wrote.
    """

    reply_index: int
    kind: RatingKind
    value: float
    comment: str | None = None
    preferred: str | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """Ratings stand in this order, and of one reply's the last counts."""
        return self.reply_index, _RATING_KINDS.index(self.kind)


def writer_of(
    user_key: str | None, family: str | None, conversation_id: str, messages: Iterable[Message | ChatMessage]
) -> str:
    """Paths of one tree have the same family and begin with the same request. The family alone may be a session, whose
    id many people can share (the name of an application, a channel)."""
    if user_key or family is None:
        return user_key or conversation_id
    asked = next((message.content for message in messages if message.role == "user"), "")
    return hashlib.sha256(f"{family}\0{asked}".encode()).hexdigest()[:16]


class OfConversation:
    """Whose a conversation is, and each row made of it."""

    __slots__ = ()
    conversation_id: str
    user_key: str | None
    family: str | None

    @property
    def chat(self) -> str:
        """One id for what continues one chat: the family if there is one."""
        return self.family or self.conversation_id

    @property
    def user(self) -> str:
        """Whose rows are alike, for intervals: where the log names no user, the chat or session. In doubt the units are
        too few and the intervals too wide."""
        return self.user_key or self.chat


@dataclass(frozen=True, slots=True)
class Conversation(OfConversation):
    """A chat of the logs, from the first message to the last.

    `family`: what the paths of one tree, or the conversations of one session, have in common: one id for all.

    `tools`: the schemas of the tools that the assistant could call, as a JSON list. `of_rows`: its messages came in
    rows of their own, so that one ingestion may hold a part of it.
    """

    conversation_id: str
    source: str
    source_id: str | None
    messages: tuple[Message, ...]
    split: Split
    user_key: str | None = None
    model: str | None = None
    language: str | None = None
    started_at: str | None = None
    ratings: tuple[Rating, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    family: str | None = None
    tools: str | None = None
    of_rows: bool = False

    @property
    def writer(self) -> str:
        """Who counts as one user for a limit: where the log names none, a chat with all its paths. Many people may
        share a session, and a limit for one would drop their prompts."""
        return writer_of(self.user_key, self.family, self.conversation_id, self.messages)

    def is_toxic(self, *places: int) -> bool:
        """Did the log's own moderation flag one of these messages (or, where it names none, the conversation)?"""
        if "toxic_turns" not in self.tags:
            return "true" in self.tags.get("toxic", "").split(", ")  # rows or versions may contradict each other
        return self._is_flagged("toxic_turns", places)

    def has_media(self, *places: int) -> bool:
        """Did one of these messages hold an image, a file or sound, of which only a mark is left?"""
        return "media_turns" in self.tags and self._is_flagged("media_turns", places)

    def _is_flagged(self, tag: str, places: Iterable[int]) -> bool:
        flagged = set(self.tags[tag].split(","))
        return any(str(self.messages[place].source_index) in flagged for place in places)

    def finish_of(self, place: int) -> Finish:
        """`length` if the log says that this message was cut at a limit (the tag `cut_turns`, as `toxic_turns`)."""
        cut = self.tags.get("cut_turns", "").split(",")
        return "length" if str(self.messages[place].source_index) in cut else "stop"


@dataclass(frozen=True, slots=True)
class ReadMark:
    """How far a run has read its store. `ingested`: the number of the last write before it read; None: all of it.

    `conversations`: how many it read for the first time, or anew because they had changed. `cuts`: where its split in
    time order has its borders, in seconds since 1970; None without such a split.
    """

    ingested: int | None
    conversations: int
    cuts: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class FeedbackLabel:
    """What the user said about `messages[reply_index]`; `messages[user_index]` is where they said it.

    `rubric`: of a judge, the items that hold of the turn, each with its impact (1 to 10).
    """

    conversation_id: str
    reply_index: int
    user_index: int | None
    label: Verdict
    labeller: LabelSource
    labeller_version: str
    subtype: str | None = None
    p_dsat: float | None = None
    p_sat: float | None = None
    evidence: str | None = None
    abstain_reason: str | None = None
    rubric: tuple[tuple[str, int], ...] = ()
