"""Examples are chosen by rule."""

from drift.evaluation.results import SampleResult
from drift.records import ChatMessage
from drift.report.examples import MOST_GAINED, MOST_LOST, MOST_SHOWN, choose


def samples(*utilities: float | None) -> list[SampleResult]:
    return [
        SampleResult(prompt=(ChatMessage("user", f"ask {n}"),), completion=f"said {u}", utility=u)
        for n, u in enumerate(utilities)
    ]


def test_most_gained_most_lost_and_the_rest_by_hash():
    before, after = [0.5] * 40, [0.5 + n / 100 if n < 10 else 0.5 - n / 100 if n < 15 else 0.5 for n in range(40)]
    groups = choose(samples(*before), samples(*after))
    gains = [[round(c.gain, 2) for c in group.comparisons] for group in groups]
    assert gains[0] == [0.09, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03][:MOST_GAINED]
    assert gains[1] == [-0.14, -0.13, -0.12, -0.11, -0.1][:MOST_LOST]
    assert sum(map(len, gains)) == MOST_SHOWN
    assert "of 40 requests, 9 gained and 5 lost" in groups[0].rule
    asked = [c.prompt for group in groups for c in group.comparisons]
    assert len(set(asked)) == len(asked)


def test_without_a_utility_they_are_drawn_by_hash_whatever_the_order():
    some = samples(*[None] * 30)
    (group,) = choose(some, some)
    assert len(group.comparisons) == MOST_SHOWN
    assert choose(some[::-1], some) == (group,)


def test_only_what_both_answered_is_shown():
    assert choose(samples(0.1)[:1], []) == ()
