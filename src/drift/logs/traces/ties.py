"""Which model calls and judgements may have to do with each other: those that one Stitcher must get.

Every item asks for names, and has some. It is tied to all items that ask for a name that it asks for or has. What a
Stitcher compares follows from these ties alone, so that several of them stitch as one:

- calls of one session;
- other calls of one user, or of nobody, whose first compared message is the same: the hash of every message covers
  those before it. Calls of nobody that have none, with calls that begin with a reply. Calls of one trace: the span
  around others repeats only the last request. If a call leaves out its history, what it begins with is not known: all
  calls of its user;
- a spare record, and the calls of its trace; the trace may be named as a session is;
- a judgement, and the calls that it is about; a call that leaves out its history, and the call before it.

Only the ranges of scores are compared over all logs: `Stitcher.widen`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drift.logs.draft import Call, ConversationDraft, Evidence
from drift.logs.traces.chains import hashed, root_of

Numbers = NDArray[np.int64]


class Ties(NamedTuple):
    """The names of an item, as hashes."""

    asks: list[int]
    has: list[int]


def ties_of(item: ConversationDraft | Evidence) -> Ties:
    """The names that an item asks for and has."""
    if isinstance(item, Evidence):
        return Ties([_id(name) for name in item.about or ("",)], [])
    call = item.call or Call()
    root = root_of(item.user, call.session)
    asks, has = [root] if call.session else [], [_id(name) for name in call.ids]
    if call.spare and call.trace:
        asks += [_trace(call.trace), root_of(None, call.trace)]
    elif call.after:
        asks.append(_id(call.after))
        if call.trace:
            asks.append(_trace(call.trace))
        if not call.session:
            asks.append(_all_of(root))
        return Ties(asks, has)
    elif call.trace:
        has.append(_trace(call.trace))
    if not call.session:
        begun, by_reply = _beginning(item, root)
        # The history of calls that go on from a bare one begins with their own messages, under its user.
        asks.append(_all_of(root) if item.user and begun == _bare(root) else begun)
        has.append(_all_of(root))
        if by_reply:
            has.append(_bare(root))
        if call.trace:
            asks.append(hashed(root, "trace", call.trace))
    return Ties(asks, has)


def _beginning(draft: ConversationDraft, root: int) -> tuple[int, bool]:
    """The hash of the first message that is compared; whether it is a reply."""
    for message in draft.messages:
        text = message.content.strip()
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


def _among(pairs: Numbers, names: Numbers) -> Numbers:
    """The pairs whose name is one of the sorted `names`."""
    places = np.minimum(np.searchsorted(names, pairs[:, 1]), len(names) - 1)
    return pairs[names[places] == pairs[:, 1]]
