"""Precision and recall of the labels by the reviews so far, and the agreement of two reviewers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise, takewhile
from statistics import median

from drift.records import FeedbackLabel
from drift.review.queue import Queue, item_key
from drift.statistics import Share, Stratum, cohens_kappa, estimate_strata, posterior_share
from drift.store import Review

PACE_FROM, PACE_OF = 4, 21
"""Decisions from which a pace is told, and the number of the latest ones that it is measured on."""

Verdicts = Mapping[tuple[str, int], str | None]
"""A reviewer's verdict on each reply, by its key; None: skipped."""


@dataclass(frozen=True, slots=True)
class Quality:
    """`precision`: share of the replies labelled DSAT that are; `recall`: share of the DSAT replies labelled so.

    `sampled`: randomly drawn replies that were decided. None: too few of them.
    """

    precision: Share | None
    recall: Share | None
    sampled: int


@dataclass(frozen=True, slots=True)
class ReviewerAgreement:
    """Cohen's kappa over the `replies` that both decided. None: undefined, as both always gave the same verdict."""

    kappa: float | None
    replies: int


def verdicts_of(reviews: Iterable[Review]) -> dict[tuple[str, int], str | None]:
    return {(review.conversation_id, review.reply_index): review.label for review in reviews}


def seconds_left(decided_at: Sequence[str], remaining: int) -> float | None:
    """Time for the `remaining` decisions at the present pace: the median gap between the latest ones, so that a break
    hardly counts. `decided_at`: ISO times in the order of the decisions. None: too few of them."""
    times = [datetime.fromisoformat(at) for at in decided_at[-PACE_OF:]]
    if len(times) < PACE_FROM:
        return None
    return remaining * max(0.0, median((after - before).total_seconds() for before, after in pairwise(times)))


def estimate_quality(queue: Queue, verdicts: Verdicts) -> Quality:
    """Stratified estimate from the decided first part of each stratum's random order; other decisions do not count."""
    called, others = audited(queue, verdicts)
    precision = posterior_share(called.hits, called.judged)
    return Quality(precision, estimate_strata(called, others).recall, called.judged + others.judged)


def audited(queue: Queue, verdicts: Verdicts) -> tuple[Stratum, Stratum]:
    """The replies labelled DSAT and the others, with the decided first part of each random order; hits are DSAT."""
    called, others = _decided(queue.disliked, verdicts), _decided(queue.others, verdicts)
    return (
        Stratum(queue.disliked_size, len(called), sum(called)),
        Stratum(queue.others_size, len(others), sum(others)),
    )


def reviewer_agreement(first: Verdicts, second: Verdicts) -> ReviewerAgreement | None:
    """Of two reviewers. None if no reply was decided by both."""
    common = [(a, b) for key in first.keys() & second.keys() if (a := first[key]) and (b := second[key])]
    if not common:
        return None
    return ReviewerAgreement(cohens_kappa([a for a, _ in common], [b for _, b in common]), len(common))


def _decided(stratum: Sequence[FeedbackLabel], verdicts: Verdicts) -> list[bool]:
    """Was each reply of the stratum's decided first part disliked? Skipped replies are left out."""
    first_part = takewhile(lambda label: item_key(label) in verdicts, stratum)
    decided = (verdicts[item_key(label)] for label in first_part)
    return [verdict == "DSAT" for verdict in decided if verdict is not None]
