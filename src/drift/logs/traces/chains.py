"""Calls that leave out their history, or the older part of it: which goes on from which.

Some name the call before them instead (`Call.after`, `Chains`). A call is known by its place in the file of texts. What
calls have said is a chain of hashes (`Said`), so that each call is read once, however long its chain is.

Others hold only the last messages of their chat, a window (`parts_of`). Such a call begins in the middle of what was
said, so its hashes have nothing in common with those of the calls before it. Its `head`, the messages before the first
reply that a call gave under this beginning, ends what an earlier call of the session and the user said. What it adds is
joined to that: each call that none goes on from ends one conversation. Where neither the session nor the user shows
that both are of one chat, "hi" and "Hello! How can I help you?" do not either: the texts must be longer.
"""

import hashlib
import itertools
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drift.endpoint.sources import may_cite, without_marks
from drift.logs.draft import Call, ConversationDraft
from drift.logs.traces.spool import Texts
from drift.records import Message

NO_CALL = -1
ENOUGH = 100
"""Bytes of text that two calls must have in common to be of one chat, where nothing else shows it: a greeting, or
thanks, with the reply to it has fewer."""


class HashedReply(NamedTuple):
    """A reply as hashes, each over everything before it: of all that is compared, and with the answers of tools; the
    message and the reply before it. `earlier`: the reply before it in its call's history."""

    earlier: "HashedReply | None"
    position: int
    node: int
    named: int
    request: int
    parent: int
    is_cut: bool


class Said(NamedTuple):
    """What a call has said up to its last message. `waiting`: a request without a reply yet; `passed`: requests that
    the user went on from without one; `spoken`: messages that are no system message; `users`, `answers`: those that are
    compared."""

    root: int
    node: int
    named: int
    parent: int
    waiting: int = 0
    passed: tuple[int, ...] = ()
    asked: str = ""
    users: int = 0
    answers: int = 0
    spoken: int = 0
    answered: bool = False
    last: HashedReply | None = None

    @classmethod
    def nothing(cls, root: int) -> "Said":
        return cls(root, root, root, root)

    def replies(self, until: HashedReply | None = None) -> list[HashedReply]:
        """In order; only those after `until`."""
        found: list[HashedReply] = []
        reply = self.last
        while reply is not None and reply is not until:
            found.append(reply)
            reply = reply.earlier
        return found[::-1]


def say(said: Said, messages: Iterable[tuple[int, Message]]) -> Said:
    """Go on with messages, each with its position."""
    root, node, named, parent, waiting, _, asked, users, answers, spoken, answered, last = said
    passed: list[int] = []
    for position, message in messages:
        if message.role == "system":
            continue
        text = compared(message)
        spoken += 1
        if message.tool_calls and not text:
            answered = False
            continue
        named = hashed(named, message.role, text)  # identities cover all messages, also those that are not compared
        answered = message.role == "assistant"
        if message.role == "tool":
            continue
        before, node = node, hashed(node, message.role, text)
        if answered:
            last = HashedReply(last, position, node, named, before, parent, message.is_cut)
            answers += 1
            parent, waiting = node, 0
            continue
        if waiting:
            passed.append(waiting)
        waiting, asked, users = node, text, users + 1
    return Said(root, node, named, parent, waiting, tuple(passed), asked, users, answers, spoken, answered, last)


def compared(message: Message) -> str:
    """The text of a message that is compared: a reply's without marks of sources, because many applications take these
    out of the history that they send."""
    text = message.content
    return (without_marks(text) if message.role == "assistant" and may_cite(text) else text).strip()


def hashed(before: int, *parts: str) -> int:
    """A hash of `before` and the parts: 64 bits, signed like DuckDB's BIGINT, never 0."""
    digest = hashlib.blake2b(before.to_bytes(8, "little", signed=True), digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.encode())
    return int.from_bytes(digest.digest(), "little", signed=True) or 1


class ChainedCall(NamedTuple):
    """A call that leaves out its history, with what the calls before it said. `draft`: without them, but with the user
    and the session that they named. `replies`: those to insert; if later calls have the earlier ones, only its own."""

    number: int
    draft: ConversationDraft
    place: int
    said: Said
    replies: list[HashedReply]


class Chains:
    """The calls that go on from another. `links`: `call` (its number), `place`, in order; `above`, the place of the
    call before it, NO_CALL if that is not in these logs; `session` and `author`, the roots that it names itself, or 0.
    """

    def __init__(self, texts: Texts, links: Mapping[str, NDArray[Any]]) -> None:
        self._texts = texts
        self._numbers, self._places = links["call"], links["place"]
        self._above, self._sessions, self._authors = links["above"].copy(), links["session"], links["author"]
        order = np.argsort(self._above, kind="stable")
        self._below, self._above_of_below = self._places[order], self._above[order]
        self._break_circles()

    def __contains__(self, place: int) -> bool:
        index = self._index(place)
        return index < len(self._places) and bool(self._places[index] == place)

    def walk(self) -> Iterator[ChainedCall]:
        """Yield all calls, each after the call before it."""
        waiting: list[tuple[int, Said | None, _Names]] = [(place, None, _Names()) for place in self._first()[::-1]]
        while waiting:
            place, before, names = waiting.pop()
            draft = names.given_to(self._texts.draft(place)[0])
            names = _Names.of(draft)
            root = names.root()
            history, is_whole = self._history(place, root, before)
            said = say(history, enumerate(_spoken(draft.messages), history.spoken))
            below = self._after(place)
            if place in self:
                is_whole = is_whole or all(self._root(child, names) != root for child in below)
                replies = said.replies(None if is_whole else history.last)
                number, passed = int(self._numbers[self._index(place)]), (*history.passed, *said.passed)
                lead = sum(message.role == "system" for message in draft.messages)
                placed = [reply._replace(position=lead + reply.position) for reply in replies]
                yield ChainedCall(number, draft, place, said._replace(passed=passed), placed)
            waiting += [(child, said, names) for child in reversed(below)]

    def draft(self, place: int) -> tuple[ConversationDraft, str]:
        """The call with its history, and its log. Instructions hold for one call: earlier ones are not in force."""
        draft, file = self._texts.draft(place)
        said: list[Message] = []
        names = _Names()
        for above in self.path(place)[:-1]:
            one = names.given_to(self._texts.draft(above)[0])
            said += _spoken(one.messages)
            names = _Names.of(one)
        system = [message for message in draft.messages if message.role == "system"]
        messages = [
            replace(message, source_index=index)
            for index, message in enumerate((*system, *said, *_spoken(draft.messages)))
        ]
        return replace(names.given_to(draft), messages=tuple(messages)), file

    def _history(self, place: int, root: int, before: Said | None) -> tuple[Said, bool]:
        """What was said before a call with this root; whether the call has to tell all of it. Of another session or
        user than the calls before it, nothing is known yet."""
        if before is not None and before.root == root:
            return before._replace(passed=()), False
        above = (self._texts.draft(above)[0] for above in self.path(place)[:-1])
        return say(Said.nothing(root), enumerate(_spoken(m for one in above for m in one.messages))), True

    def path(self, place: int) -> list[int]:
        """The calls from the first of the chain to this one."""
        path = [place]
        while path[-1] in self and (above := int(self._above[self._index(path[-1])])) != NO_CALL:
            path.append(above)
        return path[::-1]

    def _index(self, place: int) -> int:
        return int(np.searchsorted(self._places, place))

    def _first(self) -> list[int]:
        """The calls with which chains begin: those that name no other, and those whose history is not here."""
        named = np.setdiff1d(self._above, self._places)
        return [*named[named != NO_CALL].tolist(), *self._places[self._above == NO_CALL].tolist()]

    def _after(self, place: int) -> list[int]:
        """The calls that go on from a call."""
        low, high = (int(np.searchsorted(self._above_of_below, place, side)) for side in ("left", "right"))
        return [below for below in self._below[low:high].tolist() if self._above[self._index(below)] == place]

    def _root(self, place: int, before: "_Names") -> int:
        """The root of a call that goes on from one with these names."""
        session, author = (int(roots[self._index(place)]) for roots in (self._sessions, self._authors))
        return session or (before.root() if before.session else author or before.root())

    def _break_circles(self) -> None:
        """Calls that no first call leads to go on from each other in a circle: the first in the logs begins a chain."""
        reached = set[int]()
        for place in (*self._first(), *self._places.tolist()):
            if place in reached:
                continue
            if place in self:
                self._above[self._index(place)] = NO_CALL
            waiting = [place]
            while waiting:
                call = waiting.pop()
                reached.add(call)
                waiting += (below for below in self._after(call) if below not in reached)


class _Names(NamedTuple):
    """Whom a call names, or the calls before it."""

    user: str | None = None
    session: str | None = None

    @classmethod
    def of(cls, draft: ConversationDraft) -> "_Names":
        return cls(draft.user, draft.call.session if draft.call else None)

    def given_to(self, draft: ConversationDraft) -> ConversationDraft:
        """The draft with the names that it leaves out."""
        call = draft.call or Call()
        return replace(draft, user=draft.user or self.user, call=replace(call, session=call.session or self.session))

    def root(self) -> int:
        return root_of(self.user, self.session)


def root_of(user: str | None, session: str | None) -> int:
    """What the hashes of a call begin with: calls are compared within their session, else within their user."""
    return hashed(0, "session", session) if session else hashed(0, "user", user or "")


def _spoken(messages: Iterable[Message]) -> Iterator[Message]:
    return (message for message in messages if message.role != "system")


class WindowCall(NamedTuple):
    """A call of a session that may hold only its last messages. `head`: how many messages a head may have; `whose`: the
    user, if the session has several, else 0; `is_one`: all calls of the session and this user are of one chat."""

    call: int
    place: int
    head: int
    started: float
    whose: int
    is_one: bool


class WindowPart(NamedTuple):
    """A call as a part of a conversation, with its messages from `start` on, and before `until` if it is not the last.
    `leaf`: the place of the conversation's last call; `step`: the order of the parts. `is_branch`: an older call goes
    on from the same one, and the conversation of that has the identity of the calls before it."""

    leaf: int
    step: int
    call: int
    start: int
    until: int | None
    is_branch: bool


class _Window(NamedTuple):
    """What a call has said: a hash of each message that is compared. `end`: of the messages up to the last of these."""

    whose: int
    call: int
    place: int
    texts: "array[int]"
    end: int


class _GoesOn(NamedTuple):
    above: _Window
    start: int
    is_branch: bool


def parts_of(calls: Iterable[WindowCall], draft_at: Callable[[int], ConversationDraft]) -> Iterator[WindowPart]:
    """The conversations of one session that are joined from several calls, part by part. `calls` are in the order of
    time. Of calls at one time any may be the one before."""
    ends: defaultdict[tuple[int, int], list[_Window]] = defaultdict(list)  # by the user and the last text
    links: dict[int, _GoesOn] = {}
    listed: list[_Window] = []
    went_on: set[int] = set()
    for _, at_once in itertools.groupby(calls, key=attrgetter("started")):
        heads: list[tuple[_Window, list[tuple[int, int]]]] = []
        for call, place, head, _, whose, is_one in at_once:
            messages = draft_at(place).messages
            places = [index for index, message in enumerate(messages) if _is_compared(message)]
            if places:
                texts = array("q", [hashed(0, messages[i].role, compared(messages[i])) for i in places])
                listed.append(said := _Window(whose, call, place, texts, places[-1] + 1))
                ends[whose, texts[-1]].append(said)
                sizes = _sizes(messages, places, head)
                enough = (size for size in sizes if is_one or _says_enough(messages, places[:size]))
                heads.append((said, [(size, places[size - 1] + 1) for size in enough]))
        for said, sizes in heads:
            for size, start in sizes:
                head_texts = said.texts[:size]
                ending = (one for one in reversed(ends[said.whose, head_texts[-1]]) if one.texts[-size:] == head_texts)
                above = next((one for one in ending if not _leads_to(one, said, links)), None)
                if above is not None:
                    links[said.call] = _GoesOn(above, start, above.call in went_on)
                    went_on.add(above.call)
                    break
    for leaf in listed:
        if leaf.call in links and leaf.call not in went_on:
            yield from _parts_up_to(leaf, links)


def _leads_to(one: _Window, other: _Window, links: dict[int, _GoesOn]) -> bool:
    """Whether `one` is `other` or goes on from it."""
    while one.call != other.call and one.call in links:
        one = links[one.call].above
    return one.call == other.call


def part_of(draft: ConversationDraft, start: int, until: int | None) -> ConversationDraft:
    """The draft of a part. Only the last one counts its rows: the others are calls that are part of a later one."""
    inside = range(len(draft.messages))[start:until]
    ratings = (replace(r, reply_index=r.reply_index - start) for r in draft.ratings if r.reply_index in inside)
    rows = draft.rows if until is None else 0
    return replace(draft, messages=draft.messages[start:until], ratings=tuple(ratings), rows=rows)


def _is_compared(message: Message) -> bool:
    return message.role in ("user", "assistant") and bool(compared(message) or not message.tool_calls)


def _says_enough(messages: tuple[Message, ...], places: list[int]) -> bool:
    """Whether the messages at these places say enough to show that they are of one chat."""
    return sum(len(compared(messages[place]).encode()) for place in places) >= ENOUGH


def _sizes(messages: tuple[Message, ...], places: list[int], head: int) -> Iterator[int]:
    """How many of the compared messages the head may have, the most first: the last request in it may have been new,
    and one request alone shows no chat."""
    size = bisect_left(places, head)
    while size:
        is_reply = messages[places[size - 1]].role == "assistant"
        if is_reply or size > 1:
            yield size
        if is_reply:
            return
        size -= 1


def _parts_up_to(leaf: _Window, links: dict[int, _GoesOn]) -> Iterator[WindowPart]:
    """The parts of the conversation that a call ends, the last one first."""
    said, until, step = leaf, None, 0
    while link := links.get(said.call):
        yield WindowPart(leaf.place, step, said.call, link.start, until, link.is_branch)
        said, until, step = link.above, link.above.end, step - 1
    yield WindowPart(leaf.place, step, said.call, 0, until, False)
