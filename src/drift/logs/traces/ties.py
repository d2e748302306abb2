"""Which model calls and judgements may have to do with each other: those that one Stitcher must get.

Every item asks for names, and has some. It is tied to all items that ask for a name that it asks for or has. What a
Stitcher compares follows from these ties alone, so that several of them stitch as one:

- calls of one session;
- calls without a session, of one user or of nobody, if they begin with the same message (the hash of a message covers
  those before it). Of these, too: those that begin with a reply, because they go on from those without any message to
  compare; and those of one trace, because the span around others repeats only the last request;
- a call without a session, and those of any session or user with the same opening: it may get their names;
- a spare record, and the calls of its trace; the trace may be named as a session is. The calls may get its session, or
  its user, whose calls may begin with any message: it asks for all of them;
- the calls of a trace that say something about a consent: one that refuses does so for the others;
- a judgement, and the calls that it is about; a call that leaves out its history, and the call before it. Such a call
  of nobody begins as the calls before it do, and only if there are none (`beginnings`) as it does itself. What such a
  call of a user begins with is not known here: it asks for all calls of the user. So do calls without a message to
  compare, because the calls that go on from them may begin with any.

Only the ranges of scores are compared over all logs: `Stitcher.widen`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drift.logs.draft import Call, ConversationDraft, Evidence
from drift.logs.traces.chains import ENOUGH, compared, hashed, root_of
from drift.records import Message

Numbers = NDArray[np.int64]


class Ties(NamedTuple):
    """The names of an item, as hashes. `after`: that of the call before it; `if_first`: what it asks for too if the
    history of another call, or its own, begins with it (`beginnings`)."""

    asks: list[int]
    has: list[int]
    after: int | None = None
    if_first: int | None = None


def ties_of(item: ConversationDraft | Evidence) -> Ties:
    """The names that an item asks for and has."""
    if isinstance(item, Evidence):
        return Ties([_id(name) for name in item.about or ("",)], [])
    call = item.call or Call()
    root, ids = root_of(item.user, call.session), [_id(name) for name in call.ids]
    asks, has = [root] if call.session else [], ids
    if call.spare and call.trace:
        asks, has = [*asks, *ids, _trace(call.trace), root_of(None, call.trace)], []
        asks += [_all_of(root)] if item.user and not call.session else []
        after = None
        if not item.messages:
            return Ties(asks, has)
    elif call.after:
        after = _id(call.after)
        asks += [after, _trace(call.trace)] if call.trace else [after]
    else:
        after, has = None, [*ids, _trace(call.trace)] if call.trace else ids
    if item.tags and call.trace:
        asks = [*asks, _trace(call.trace)]
    if after is None and not call.spare and (opening := opening_of(item.messages)) is not None:
        asks, has = (asks, [*has, opening]) if call.session else ([*asks, opening], has)
    if call.session:
        return Ties(asks, has, after)
    begun, by_reply = _beginning(item, root)
    has = [*has, _all_of(root), *([_bare(root)] if by_reply else [])]
    is_bare = begun == _bare(root)
    if item.user and (is_bare or after is not None):  # what a history under this user begins with is not known here
        return Ties([*asks, _all_of(root)], has, after)
    if after is not None:
        return Ties(asks, has, after, _all_of(root) if is_bare else begun)
    if call.trace:
        asks.append(hashed(root, "trace", call.trace))
    return Ties([*asks, begun], has, None, _all_of(root) if is_bare else None)


def opening_of(messages: Iterable[Message]) -> int | None:
    """The hash of the first two exchanges, whatever the session and the user are; None if there are fewer, or if they
    say so little that two chats may begin with them."""
    said: list[str] = []
    exchanges, is_asked = 0, False
    for message in messages:
        text = compared(message)
        if message.role in ("user", "assistant") and (text or not message.tool_calls):
            said += [message.role, text]
            exchanges += message.role == "assistant" and is_asked
            is_asked = message.role == "user"
        if exchanges == 2:
            return hashed(0, "opening", *said) if sum(len(text.encode()) for text in said[1::2]) >= ENOUGH else None
    return None


def _beginning(draft: ConversationDraft, root: int) -> tuple[int, bool]:
    """The hash of the first message that is compared; whether it is a reply."""
    for message in draft.messages:
        text = compared(message)
        if message.role not in ("system", "tool") and (text or not message.tool_calls):
            return hashed(root, message.role, text), message.role == "assistant"
    return _bare(root), False


def _id(name: str) -> int:
    return hashed(0, "id", name)


def _trace(name: str) -> int:
    return hashed(0, "trace", name)


def _all_of(root: int) -> int:
    return hashed(root, "all")


def _bare(root: int) -> int:
    return hashed(root, "no message")


def scale_of(name: str) -> int:
    """The hash of a score's name."""
    return hashed(0, name)


def components(items: int, asks: Sequence[Numbers], has: Iterable[Numbers]) -> Numbers:
    """Of each item the lowest name of all items that it is tied to, directly or through others: int64 [items].

    `asks`, `has`: pairs of the number of an item and a name, int64 [pairs, 2], part by part. Memory: about 40 bytes
    for each name that is asked for.
    """
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    asked = np.unique(np.concatenate([part[:, 1] for part in asks]))
    pairs = np.concatenate([*asks, *(_among(part, asked) for part in has)])
    numbers, names = pairs[:, 0], pairs[:, 1]
    order = np.argsort(names, kind="stable")
    same = names[order[1:]] == names[order[:-1]]
    one, other = numbers[order[:-1][same]], numbers[order[1:][same]]
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(items, items))
    _, component = connected_components(graph, directed=False)
    lowest = np.full(items, np.iinfo(np.int64).max)
    np.minimum.at(lowest, component[numbers], names)
    return lowest[component]


def beginnings(after: Numbers, if_first: Numbers, has: Iterable[Numbers]) -> Numbers:
    """What items ask for because a history begins with them: a part of `if_first`.

    `after`, `if_first`, `has`: pairs as of `components`, of all items; `has` part by part, in their order. A history
    begins with a call that names a call before it if that is not in the logs, or if calls go on from each other in a
    circle; and with one that names none, if another goes on from it.
    """
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    if not len(after):
        return if_first[:0]
    wanted = np.unique(after[:, 1])
    found = np.concatenate([_among(part, wanted) for part in has])
    names, first = np.unique(found[:, 1], return_index=True)  # the first item that has a name
    is_known = np.isin(after[:, 1], names)
    if not is_known.any():
        return if_first[np.isin(if_first[:, 0], after[:, 0])]
    below = after[is_known, 0]
    above = found[first[np.searchsorted(names, after[is_known, 1])], 0]
    chained, place = np.unique(np.concatenate([below, above]), return_inverse=True)
    edges = place[: len(below)], place[len(below) :]
    graph = coo_array((np.ones(len(below), bool), edges), shape=(len(chained), len(chained)))
    count, chain = connected_components(graph, directed=False)
    # Each call has at most one before it, so a chain has a circle if it has as many links as calls.
    in_circle = np.bincount(chain[edges[0]], minlength=count) == np.bincount(chain, minlength=count)
    begin = [after[~is_known, 0], np.setdiff1d(above, after[:, 0]), chained[in_circle[chain]]]
    return if_first[np.isin(if_first[:, 0], np.concatenate(begin))]


def _among(pairs: Numbers, names: Numbers) -> Numbers:
    """The pairs whose name is one of the sorted `names`, of which there are some."""
    places = np.minimum(np.searchsorted(names, pairs[:, 1]), len(names) - 1)
    return pairs[names[places] == pairs[:, 1]]
