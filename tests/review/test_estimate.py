"""Precision, recall and kappa against numbers worked out by hand and against a simulated truth."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from drift.records import FeedbackLabel
from drift.review.estimate import PACE_OF, estimate_quality, reviewer_agreement, seconds_left
from drift.review.queue import build_queue, item_key


def test_by_hand():
    called = [FeedbackLabel(f"d{n}", 1, 2, "DSAT", "embedded", "1") for n in range(10)]
    others = [FeedbackLabel(f"n{n}", 1, 2, "NEUTRAL", "embedded", "1") for n in range(90)]
    queue = build_queue([*called, *others])
    said = {item_key(label): "DSAT" for label in queue.disliked[:3]} | {item_key(queue.disliked[3]): "NEUTRAL"}
    said |= {item_key(label): "NEUTRAL" for label in queue.others[:8]} | {item_key(queue.others[8]): "DSAT"}
    said |= {item_key(queue.others[9]): None}  # passed over
    quality = estimate_quality(queue, said)
    assert quality.sampled == 13
    assert quality.precision is not None
    assert quality.recall is not None
    assert quality.precision.value == 3 / 4
    assert quality.recall.value == pytest.approx(7.5 / (7.5 + 10))  # 10 * 3/4 found, 90 * 1/9 missed
    assert quality.precision.low < 3 / 4 < quality.precision.high


def test_only_the_decided_beginning_counts():
    queue = build_queue(FeedbackLabel(f"d{n}", 1, 2, "DSAT", "embedded", "1") for n in range(10))
    quality = estimate_quality(queue, {item_key(queue.disliked[5]): "DSAT"})  # an uncertain one, met out of turn
    assert (quality.precision, quality.sampled) == (None, 0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    draws = np.random.default_rng(1)
    covered = 0
    for trial in range(100):
        truth = {(f"c{n}", 1): bool(draws.random() < 0.2) for n in range(400)}
        labels = [
            FeedbackLabel(c, i, 2, "DSAT" if draws.random() < (0.6 if bad else 0.1) else "NEUTRAL", "embedded", "1")
            for (c, i), bad in truth.items()
        ]
        queue = build_queue(labels, seed=trial)
        seen = {
            item_key(x): "DSAT" if truth[item_key(x)] else "SAT" for x in (*queue.disliked[:40], *queue.others[:40])
        }
        recall = estimate_quality(queue, seen).recall
        found = sum(truth[item_key(label)] for label in queue.disliked)
        assert recall is not None
        covered += recall.low <= found / sum(truth.values()) <= recall.high
    assert covered >= 88


def test_kappa_by_hand():
    first = dict(zip("abcdef", ["DSAT", "DSAT", "SAT", "SAT", "NEUTRAL", None], strict=True))
    second = dict(zip("abcdef", ["DSAT", "SAT", "SAT", "SAT", "NEUTRAL", "SAT"], strict=True))
    first, second = ({(key, 1): said for key, said in verdicts.items()} for verdicts in (first, second))
    agreement = reviewer_agreement(first, second)
    assert agreement is not None
    assert agreement.replies == 5
    assert agreement.kappa == pytest.approx((0.8 - 0.36) / (1 - 0.36))  # chance: (2*1 + 2*3 + 1*1) / 25 = 0.36
    assert reviewer_agreement(first, {}) is None


def test_one_verdict_throughout_leaves_no_room_for_kappa():
    agreement = reviewer_agreement({("a", 1): "DSAT", ("b", 1): "DSAT"}, {("a", 1): "DSAT", ("b", 1): "DSAT"})
    assert agreement is not None
    assert (agreement.kappa, agreement.replies) == (None, 2)


def test_where_everything_is_called_disliked_recall_is_one():
    queue = build_queue(FeedbackLabel(f"d{n}", 1, 2, "DSAT", "embedded", "1") for n in range(10))
    quality = estimate_quality(queue, {item_key(label): "DSAT" for label in queue.disliked[:4]})
    assert quality.recall is not None
    assert (quality.recall.value, quality.recall.low, quality.recall.high) == (1, 1, 1)


def at(*minutes: float) -> list[str]:
    return [
        (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=m)).isoformat(timespec="milliseconds") for m in minutes
    ]


@pytest.mark.parametrize(
    ("times", "left"),
    [
        (at(), None),
        (at(0, 1, 2), None),
        (at(0, 1, 2, 3), 600.0),
        (at(0, 1, 2, 240, 241), 600.0),  # a break is no pace
        (at(3, 2, 1, 0), 0.0),  # the clock was set back
        (at(*range(0, 300, 10), *range(300, 300 + PACE_OF)), 600.0),  # the present pace, not that of the start
    ],
)
def test_time_left_at_the_present_pace(times, left):
    assert seconds_left(times, 10) == left
