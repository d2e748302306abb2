"""The order in which labels are audited."""

from drift.records import FeedbackLabel
from drift.review.queue import build_queue, item_key


def labels(*probabilities: float) -> list[FeedbackLabel]:
    return [
        FeedbackLabel(f"c{n}", 1, 2, "DSAT" if p >= 0.5 else "NEUTRAL", "embedded", "1", p_dsat=p)
        for n, p in enumerate(probabilities)
    ]


def test_uncertain_and_random_take_turns_and_nothing_comes_twice():
    some = labels(0.99, 0.55, 0.02, 0.48, 0.9, 0.1)
    queue = build_queue(some)
    assert queue.order[0].p_dsat == 0.48  # nearest to a coin flip
    assert sorted(map(item_key, queue.order)) == sorted(map(item_key, some))
    assert (queue.disliked_size, queue.others_size) == (3, 3)
    assert {label.label for label in queue.disliked} == {"DSAT"}


def test_the_random_order_depends_on_the_seed_alone():
    some = labels(*(n / 100 for n in range(100)))
    assert build_queue(some).others == build_queue(reversed(some)).others
    assert build_queue(some, seed=1).others != build_queue(some).others


def test_what_nobody_can_judge_is_not_asked():
    abstained = FeedbackLabel("a", 1, 2, "ABSTAIN", "embedded", "1", abstain_reason="language")
    thumb = FeedbackLabel("b", 1, None, "DSAT", "rating", "1")
    assert build_queue([abstained, thumb]).order == ()
