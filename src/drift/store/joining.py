"""Parts of one conversation that came in several ingestions: logs with a message per row, exported day by day.

Parts are joined if their order is no guess: the later one goes on in time where the earlier one ends, or begins with
the messages with which that ends. The paths of a tree are not: which of them a later message follows is not stored.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice, repeat
from operator import attrgetter, eq
from typing import get_args

from drift.endpoint.sources import may_cite, without_marks
from drift.records import Conversation, Message, PersonalData, Rating, RatingKind, tag_of_all

_OF_TURNS = ("media_turns", "cut_turns", "toxic_turns")
"""Tags that name messages by their place in the log."""
_PLACEHOLDER = re.compile(rf"<({'|'.join(kind.upper() for kind in get_args(PersonalData))})_[0-9]{{1,9}}>")
_SURE = 2
"""Messages that two parts without times must have in common: one may be said twice."""


def join_parts(old: Conversation, new: Conversation) -> Conversation | None:
    """Both parts as one conversation; None if they are versions of the same messages, or if their order is unknown.

    Where both rate the same reply, the newer one counts. Parts that contradict each other about a tag keep all its
    values, as rows of one ingestion do: a consent is none then.
    """
    is_tree = any(one.family == one.conversation_id for one in (old, new))  # then this is its oldest path
    if is_tree or len({old.user_key, new.user_key} - {None}) > 1:
        return None
    before, after = _Part(old), _Part(new)
    if all(one == other for one, other in zip(before.texts, after.texts, strict=False)):
        return None  # one is the beginning of the other
    for first, then in ((before, after), (after, before)):
        if (places := _meeting(first, then)) is not None:
            return _joined(first.whole, then.whole, *places, newer=new)
    return None


def are_apart(old: Conversation, new: Conversation) -> bool:
    """Whether two versions hold other messages, so that neither can stand for the other: neither has the first two
    messages of the other, less than half of the shorter one is in both, and no time is that of one message of each (the
    texts of a version may differ: they may be redacted now)."""
    spoken = [[text_of(m) for m in one.messages if m.role != "system"] for one in (old, new)]
    if not all(spoken) or _begins_in(*spoken) or _begins_in(*reversed(spoken)):
        return False
    times = [Counter(m.timestamp for m in one.messages if m.timestamp) for one in (old, new)]
    if any(times[1][time] == number == 1 for time, number in times[0].items()):
        return False
    return len({*spoken[0]} & {*spoken[1]}) * 2 < min(map(len, spoken))


def _begins_in(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether the first two messages of `one` stand in `other`: many a day begins with "hi"."""
    begins = one[:2]
    return any(other[place : place + len(begins)] == begins for place in range(len(other)))


def text_of(message: Message) -> tuple[object, ...]:
    """The part of a message that labels judge. Its time and source_index may differ from export to export, and a
    store may still hold the marks of sources that are taken out of what comes."""
    text = message.content
    text = without_marks(text) if message.role == "assistant" and may_cite(text) else text
    return message.role, text, message.tool_calls


def _compared(message: Message) -> tuple[object, ...]:
    """As `text_of`, without the numbers of placeholders: they count anew in each part."""
    role, text, calls = text_of(message)
    return role, _PLACEHOLDER.sub(r"<\1>", str(text)), calls


class _Part:
    """A conversation with the texts and the times of its messages. A message without a time has that of the one before
    it; if the first has none, or one cannot be read, all have the same."""

    def __init__(self, whole: Conversation) -> None:
        self.whole = whole
        self.texts = list(map(_compared, whole.messages))
        self.times: list[float] = []
        for message in whole.messages:
            time = _seconds(message.timestamp) if message.timestamp else next(reversed(self.times), None)
            if time is None:
                self.times = [0.0] * len(self.texts)
                return
            self.times.append(time)


def _seconds(time: str) -> float | None:
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _meeting(first: _Part, then: _Part) -> tuple[int, int] | None:
    """Where in `first`, and from which message of `then`, both hold the same messages up to an end of one; the end of
    `first` if `then` goes on there. None if `then` is no later part."""
    skip = int(then.whole.messages[0].role == "system" and then.texts[0] == first.texts[0])  # stands there once
    is_timed = min(first.times[0], then.times[0]) > 0
    one = list(zip(first.texts, first.times if is_timed else repeat(0.0), strict=False))
    other = list(zip(then.texts, then.times if is_timed else repeat(0.0), strict=False))[skip:]
    places = range(1, len(one) + 1)
    start = next(place for place in places if all(map(eq, islice(one, place, None), other)))
    both = min(len(one) - start, len(other))
    if not other or (not is_timed and both < _SURE):
        return None
    added = [time for _, time in other[both:]]
    if added and is_timed and min(added) < max(first.times):
        return None
    if not both and max(added) <= min(first.times):  # all messages have one time, which tells no order
        return None
    if not both and first.whole.messages[-1].role == other[0][0][0] == "assistant":  # asked for again
        return None
    return start, skip


def _joined(first: Conversation, then: Conversation, start: int, skip: int, newer: Conversation) -> Conversation:
    """Both as one. Messages that both hold are those of `first`, from `start` on."""
    added = then.messages[len(first.messages) - start + skip :]
    move = _move(first.messages, then.messages, start, skip)
    by_reply: dict[tuple[int, RatingKind], list[Rating]] = {}
    for part in (first, then) if newer is then else (then, first):
        of_part: dict[tuple[int, RatingKind], list[Rating]] = {}
        for rating in part.ratings:
            place = rating.reply_index + (start - skip if part is then else 0)
            of_part.setdefault((place, rating.kind), []).append(replace(rating, reply_index=place))
        by_reply |= of_part
    names = ("user_key", "language", "started_at", "family", "tools")
    filled = {name: getattr(then, name) for name in names if getattr(first, name) is None}
    return replace(
        first,
        **filled,
        messages=(
            *first.messages,
            *(m if m.source_index is None else replace(m, source_index=m.source_index + move) for m in added),
        ),
        model=then.model or first.model,
        ratings=tuple(sorted((r for listed in by_reply.values() for r in listed), key=attrgetter("rank"))),
        tags=_tags(first.tags, then.tags, move),
    )


def _move(first: Sequence[Message], then: Sequence[Message], start: int, skip: int) -> int:
    """By how much the places in the log (`source_index`) of `then` move, so that they go on from those of `first`."""
    begins = then[skip].source_index
    if begins is None:
        return 0
    if start < len(first):
        return (first[start].source_index or 0) - begins
    here, there = ([m.source_index for m in part if m.source_index is not None] for part in (first, then[skip:]))
    return 1 + max(here, default=-1) - min(there)


def _tags(first: dict[str, str], then: dict[str, str], move: int) -> dict[str, str]:
    moved = dict(then)
    for name in _OF_TURNS:
        if name in then:
            moved[name] = ",".join(str(int(turn) + move) for turn in then[name].split(",") if turn.isdecimal())
    return tags_of_both(first, moved)


def tags_of_both(first: dict[str, str], then: dict[str, str]) -> dict[str, str]:
    """The tags of two conversations that number their messages alike, with all values of both."""
    tags: dict[str, str] = {}
    for name in dict.fromkeys((*first, *then)):
        sign = "," if name in _OF_TURNS else ", "
        values = dict.fromkeys(value for part in (first, then) for value in part.get(name, "").split(sign) if value)
        is_places = name in _OF_TURNS
        tags[name] = ",".join(sorted(values, key=lambda turn: (len(turn), turn))) if is_places else tag_of_all(values)
    return tags
