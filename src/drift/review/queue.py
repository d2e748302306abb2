"""Which judged replies to look at, in which order: every other one is the least certain left, the rest are random.

The random ones come in turn from two strata, replies that the labels call disliked and replies that they do not. Their
order is a seeded hash, so a prefix of it is a simple random sample of its stratum, and precision and recall can be
estimated from it without bias (review/estimate.py). Uncertain ones teach most and are no sample of anything.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from drift.records import FeedbackLabel

UNCERTAIN, RANDOM = 500, 1000  # how many of each are held ready; a queue is gone through by hand


@dataclass(frozen=True, slots=True)
class Queue:
    """`order`: what to show, each reply once. `disliked`, `others`: the strata's random orders, with their sizes."""

    order: tuple[FeedbackLabel, ...]
    disliked: tuple[FeedbackLabel, ...]
    others: tuple[FeedbackLabel, ...]
    disliked_size: int
    others_size: int


def item_key(label: FeedbackLabel) -> tuple[str, int]:
    return label.conversation_id, label.reply_index


def build_queue(labels: Iterable[FeedbackLabel], seed: int = 0) -> Queue:
    """One pass over the labels that would count without reviews; memory does not grow with their number.

    Replies that no user turn answers and those that the labeller abstained on are not asked about.
    """
    uncertain, disliked, others = _Smallest(UNCERTAIN), _Smallest(RANDOM), _Smallest(RANDOM)
    for label in labels:
        if label.user_index is None or label.label == "ABSTAIN":
            continue
        (disliked if label.label == "DSAT" else others).add(_lot(label, seed), label)
        if label.p_dsat is not None:
            uncertain.add(abs(label.p_dsat - 0.5), label)
    called, rest = disliked.sorted(), others.sorted()
    order = _once(_alternate(uncertain.sorted(), _alternate(called, rest)))
    return Queue(tuple(order), called, rest, disliked.seen, others.seen)


class _Smallest:
    """The labels with the smallest keys of all that were added, and how many these were."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[float, int, FeedbackLabel]] = []
        self.seen = 0

    def add(self, key: float, label: FeedbackLabel) -> None:
        self.seen += 1
        entry = (-key, -self.seen, label)
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def sorted(self) -> tuple[FeedbackLabel, ...]:
        return tuple(label for _, _, label in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))


def _lot(label: FeedbackLabel, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{label.conversation_id}/{label.reply_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _alternate(first: Sequence[FeedbackLabel], second: Sequence[FeedbackLabel]) -> list[FeedbackLabel]:
    both = chain.from_iterable(zip_longest(first, second))
    return [label for label in both if label is not None]


def _once(labels: Iterable[FeedbackLabel]) -> Iterator[FeedbackLabel]:
    seen: set[tuple[str, int]] = set()
    for label in labels:
        if item_key(label) not in seen:
            seen.add(item_key(label))
            yield label
