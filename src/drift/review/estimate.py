"""How good are the labels, judged by the reviews so far; and how far do two reviewers agree?"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from drift.records import FeedbackLabel
from drift.review.queue import Queue, item_key
from drift.store import Review

DRAWS, SEED = 4000, 0

Verdicts = Mapping[tuple[str, int], str | None]
"""What a reviewer said of each reply, by its key; None where they passed over it."""


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Of what the labels call disliked, how much is; of what is disliked, how much they find. None: too early.

    `sampled`: how many randomly drawn replies stand behind it.
    """

    precision: Share | None
    recall: Share | None
    sampled: int


def verdicts_of(reviews: Iterable[Review]) -> dict[tuple[str, int], str | None]:
    return {(review.conversation_id, review.reply_index): review.label for review in reviews}


def estimate_quality(queue: Queue, verdicts: Verdicts) -> Quality:
    """From the decided beginning of each stratum's random order, whatever else was decided (stratified sample).

    Each stratum's share of disliked replies has a Beta posterior (Jeffreys' prior); recall weighs the strata by their
    sizes: N1 p / (N1 p + N0 q), p and q the shares among replies called disliked and among the others.
    """
    called, others = _decided(queue.disliked, verdicts), _decided(queue.others, verdicts)
    draws = np.random.default_rng(SEED)
    p, q = (draws.beta(sum(said) + 0.5, len(said) - sum(said) + 0.5, DRAWS) for said in (called, others))
    found, missed = queue.disliked_size * p, queue.others_size * q
    precision = _share(sum(called) / len(called), p) if called else None
    recall = None
    if called and others:
        hits = queue.disliked_size * sum(called) / len(called)
        misses = queue.others_size * sum(others) / len(others)
        recall = _share(hits / (hits + misses), found / (found + missed)) if hits + misses else None
    return Quality(precision, recall, len(called) + len(others))


def cohens_kappa(first: Verdicts, second: Verdicts) -> tuple[float, int] | None:
    """Agreement beyond chance of two people, and on how many replies; None without a common one."""
    common = [(first[key], second[key]) for key in first.keys() & second.keys() if first[key] and second[key]]
    if not common:
        return None
    n = len(common)
    agreed = sum(a == b for a, b in common) / n
    left, right = (Counter(pair[side] for pair in common) for side in (0, 1))
    chance = sum(left[verdict] * right[verdict] for verdict in left) / n**2
    return (1.0 if chance == 1 else (agreed - chance) / (1 - chance)), n


def _decided(stratum: Sequence[FeedbackLabel], verdicts: Verdicts) -> list[bool]:
    """Was each reply of the decided beginning disliked? Passed-over ones are left out."""
    begun = takewhile(lambda label: item_key(label) in verdicts, stratum)
    said = (verdicts[item_key(label)] for label in begun)
    return [verdict == "DSAT" for verdict in said if verdict is not None]


def _share(value: float, draws: np.ndarray) -> Share:
    low, high = np.quantile(draws, (0.025, 0.975))
    return Share(float(value), float(low), float(high))
