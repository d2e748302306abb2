"""Which labelled replies to review, in which order: alternately the least certain one left and a random one.

The random replies come alternately from two strata: labelled DSAT, and not. Their order is a seeded hash, so a prefix
of it is a simple random sample of its stratum, from which precision and recall are estimated without bias
(review/estimate.py). A decision on an uncertain reply corrects most, but uncertain replies are not a random sample.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from drift.records import FeedbackLabel

MOST_UNCERTAIN, MOST_RANDOM = 500, 1000  # replies in the queue, more than a person reviews


@dataclass(frozen=True, slots=True)
class Queue:
    """`order`: the replies to review, each once. `disliked`, `others`: the strata in random order, with their sizes."""

    order: tuple[FeedbackLabel, ...]
    disliked: tuple[FeedbackLabel, ...]
    others: tuple[FeedbackLabel, ...]
    disliked_size: int
    others_size: int


def item_key(label: FeedbackLabel) -> tuple[str, int]:
    return label.conversation_id, label.reply_index


def build_queue(labels: Iterable[FeedbackLabel], seed: int = 0) -> Queue:
    """One pass over the labels as they are without reviews; memory does not grow with their number.

    Replies without a user turn after them, and those on which the labeller abstained, are left out.
    """
    uncertain, disliked, others = _Smallest(MOST_UNCERTAIN), _Smallest(MOST_RANDOM), _Smallest(MOST_RANDOM)
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
    """Keeps the labels with the smallest keys; `seen`: how many were added."""

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
