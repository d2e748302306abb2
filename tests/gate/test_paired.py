"""Changes of paired outcomes: bounds by hand, verdicts at the margin, planning, and the rates over many repeats."""

import math

import numpy as np
import pytest
from scipy.stats import beta

from drift.gate.paired import (
    Change,
    Levels,
    bounded_low,
    design_effect,
    further_units,
    mean_change,
    rate_change,
    tango_z,
    verdict_on,
)
from drift.gate.verdict import levels_of

TWO_SIDED_95 = Levels(0.025, 0.025)
LOOKS = levels_of(1, 5), levels_of(2, 5)


def test_at_no_change_the_score_is_mcnemars():
    assert tango_z(lost=4, gained=12, items=100, change=0.0) == pytest.approx((12 - 4) / math.sqrt(12 + 4))


@pytest.mark.parametrize(
    ("lost", "gained", "items", "change"), [(9, 2, 80, -0.05), (1, 7, 44, 0.1), (20, 12, 200, -0.1)]
)
def test_the_score_is_that_of_the_constrained_maximum_likelihood(lost: int, gained: int, items: int, change: float):
    """The oracle maximises the multinomial likelihood under gained share = lost share + change by search."""
    shares = np.linspace(max(0.0, -change) + 1e-9, (1 - change) / 2 - 1e-9, 2_000_001)
    likelihoods = lost * np.log(shares) + gained * np.log(shares + change)
    likelihoods += (items - lost - gained) * np.log(1 - 2 * shares - change)
    best = shares[likelihoods.argmax()]
    expected = (gained - lost - items * change) / math.sqrt(items * (2 * best + change - change**2))
    assert tango_z(lost, gained, items, change) == pytest.approx(expected, abs=1e-4)


def test_the_bounds_are_where_the_score_is_two_standard_errors():
    change = rate_change(lost=9, gained=2, items=80, levels=TWO_SIDED_95)
    assert tango_z(9, 2, 80, change.low) == pytest.approx(1.95996, abs=1e-4)
    assert tango_z(9, 2, 80, change.high) == pytest.approx(-1.95996, abs=1e-4)


def test_without_any_differing_item_the_bounds_are_not_zero():
    """z(d) = n |d| / sqrt(n |d| (1 - |d|)), so the bound is z^2 / (n + z^2): 3.8415 / 203.8415."""
    change = rate_change(lost=0, gained=0, items=200, levels=TWO_SIDED_95)
    assert change.low == pytest.approx(-3.8415 / 203.8415, abs=1e-5)
    assert change.high == pytest.approx(3.8415 / 203.8415, abs=1e-5)


def test_gaining_and_losing_are_mirrors():
    lost, gained = (rate_change(*pair, 80, TWO_SIDED_95) for pair in ((9, 2), (2, 9)))
    assert lost.value == pytest.approx(-7 / 80)
    assert (lost.low, lost.high) == (pytest.approx(-gained.high), pytest.approx(-gained.low))


def test_no_items_cannot_be_compared():
    with pytest.raises(ValueError, match="no items"):
        rate_change(0, 0, 0, TWO_SIDED_95)
    with pytest.raises(ValueError, match="fewer than two"):
        mean_change([1.0, 2.0], ["a", "a"], TWO_SIDED_95)


def test_the_mean_has_students_interval():
    """1, 2, 3: mean 2, standard error 1 / sqrt(3), t(2) = 4.3027."""
    change = mean_change([1.0, 2.0, 3.0], None, TWO_SIDED_95)
    assert (change.value, change.items) == (2.0, 3)
    assert change.high - change.value == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)


def test_a_user_counts_once():
    """Two users with means 1/3 and 5/3: standard error 2/3; t(1) = 12.706. More items of the second alike are nothing
    new."""
    for times in (1, 9):
        changes, users = [0.0, 0.0, 1.0, *[1.0, 2.0, 2.0] * times], [*"aaa", *"bbb" * times]
        change = mean_change(changes, users, TWO_SIDED_95)
        assert (change.value, change.items) == (pytest.approx(1.0), len(users))
        assert change.high - change.value == pytest.approx(12.7062 * 2 / 3, abs=1e-3)


@pytest.mark.parametrize("sizes", [[1] * 200, [5] * 40, [10] * 20, [1] * 95 + [40] * 5, [1, 2, 5, 20, 100]])
@pytest.mark.parametrize("largest", [0.5, None])
def test_users_who_come_back_pass_a_loss_as_rarely_as_stated(sizes: list[int], largest: float | None):
    """500 repeats. Each user prefers OLD or NEW in 85 %, as many the one as the other (the change is 0), or has a
    change of his own around exactly the margin: passes in 2 % + 4 sigma."""
    rng, passed, users = np.random.default_rng(0), 0, np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(500):
        if largest:
            tastes = rng.choice((0.15, 0.85), len(sizes))
            changes = np.where(rng.random(len(users)) < tastes[users], 0.5, -0.5)
        else:
            changes = rng.normal(0, 0.2, len(sizes))[users] + rng.normal(0, 0.3, len(users))
        passed += verdict_on(mean_change(list(changes), list(users), LOOKS[0], largest), 0.0, False) == "pass"
    assert passed / 500 < 0.02 + 4 * math.sqrt(0.02 * 0.98 / 500)


def test_items_of_one_group_count_as_fewer():
    """Pairs of equal changes: twice the variance, so half the items. Single items: no effect."""
    changes = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0] * 5
    pairs = [place // 2 for place in range(len(changes))]
    effect = design_effect(changes, pairs)
    assert effect == pytest.approx(2 * (20 / 19) / (40 / 39))
    assert design_effect(changes, list(range(40))) == 1.0
    assert design_effect([0.0] * 40, pairs) == 1.0
    half, of_pairs = rate_change(5, 5, 20, TWO_SIDED_95), rate_change(10, 10, 40, TWO_SIDED_95, 2.0)
    assert (of_pairs.low, of_pairs.high) == (pytest.approx(half.low), pytest.approx(half.high))
    assert of_pairs.items == 40


@pytest.mark.parametrize(("right", "items"), [(0, 20), (5, 5), (7, 30), (190, 200)])
def test_of_two_values_the_bound_is_that_of_clopper_and_pearson(right: int, items: int):
    """0 and 1, with no loss below 0: the lower bound of a share. The saddlepoint is exact to a few per cent of the
    level."""
    values = np.array([1.0] * right + [0.0] * (items - right))
    low = bounded_low(values, 0.0, 0.02)
    exact = float(beta.ppf(0.02, right, items - right + 1)) if right else 0.0
    assert low == pytest.approx(exact, abs=3e-3)
    assert low <= exact + 1e-4


def test_with_many_items_the_bound_is_near_students():
    """400 changes of deviation .3, each at most 1: wider by what one unseen loss of 1 would take away."""
    changes = list(np.random.default_rng(1).normal(0.05, 0.3, 400).clip(-1, 1))
    bounded, student = mean_change(changes, None, TWO_SIDED_95, 1.0), mean_change(changes, None, TWO_SIDED_95)
    assert student.low - 0.01 < bounded.low < student.low
    assert student.high < bounded.high < student.high + 0.01
    assert bounded.value == student.value


def some_change(value: float, low: float, high: float, fail_low: float, fail_high: float, items: int = 200) -> Change:
    return Change(
        items, value, low, high, fail_low, fail_high, with_more=mean_change([0.0, 0.0], None, LOOKS[0]).with_more
    )


@pytest.mark.parametrize(
    ("change", "both_sides", "verdict"),
    [
        (some_change(0.0, -0.04, 0.04, -0.06, 0.06), False, "pass"),
        (some_change(-0.02, -0.06, 0.02, -0.08, 0.04), False, "undecided"),
        (some_change(-0.10, -0.14, -0.06, -0.16, -0.051), False, "fail"),
        (some_change(-0.10, -0.14, -0.06, -0.16, -0.049), False, "undecided"),
        (some_change(0.30, 0.20, 0.40, 0.10, 0.50), False, "pass"),
        (some_change(0.30, 0.20, 0.40, 0.10, 0.50), True, "fail"),
        (some_change(0.04, 0.01, 0.07, 0.00, 0.08), True, "undecided"),
    ],
)
def test_verdicts_at_a_margin_of_five_points(change: Change, both_sides: bool, verdict: str):
    assert verdict_on(change, 0.05, both_sides) == verdict


def amounts_of(values: list[float], largest: float | None, look: int) -> Change:
    return mean_change(values, None, LOOKS[look - 1], largest)


@pytest.mark.parametrize(
    ("values", "largest", "margin", "both_sides"),
    [
        ([0.0], 1.0, 0.15, True),  # lists: nothing changed
        ([0.5, 0.0, -0.5, 0.5, 0.0], 0.5, 0.0, False),  # the target: two wins, one loss, two ties
        ([0.2, -0.1, 0.1, 0.0], 6.0, 0.4, True),  # length
        ([-0.1, 0.0, -0.2, 0.1], None, 0.1, False),  # perplexity
    ],
)
def test_the_items_that_are_named_decide_at_the_next_look(
    values: list[float], largest: float | None, margin: float, both_sides: bool
):
    """Half the items, or those of the first look alone, do not. Whoever adds them as they were gets a verdict."""
    first = amounts_of(values * (20 // len(values)), largest, 1)
    assert verdict_on(first, margin, both_sides) == "undecided"
    further = further_units(first, margin, both_sides, LOOKS[1])
    assert further is not None
    times = -(-(first.items + further) // len(values))
    assert verdict_on(amounts_of(values * times, largest, 2), margin, both_sides) == "pass"
    assert verdict_on(amounts_of(values * (times // 2), largest, 2), margin, both_sides) == "undecided"


def test_twenty_equal_answers_need_seventeen_more():
    """At the second look Gaffke's bound of 37 answers without a change is below .15, and that of 36 is not."""
    assert further_units(amounts_of([0.0] * 20, 1.0, 1), 0.15, True, LOOKS[1]) == 17


def test_how_many_more_right_answers_would_decide():
    change = rate_change(20, 12, 200, LOOKS[0])
    further = further_units(change, 0.05, False, LOOKS[1])
    assert further is not None
    verdicts = [
        verdict_on(rate_change(20 * n / 200, 12 * n / 200, n, LOOKS[1]), 0.05, False)
        for n in (199 + further, 200 + further)
    ]
    assert verdicts == ["undecided", "pass"]


def test_no_number_of_items_decides_at_the_margin_itself():
    assert further_units(rate_change(20, 10, 200, LOOKS[0]), 0.05, False, LOOKS[1]) is None
    assert further_units(amounts_of([0.5, -0.5] * 50, 0.5, 1), 0.0, False, LOOKS[1]) is None


def test_at_the_margin_a_loss_passes_as_rarely_as_stated():
    """500 repeats of 200 items with 15 % lost and 10 % gained, so exactly 5 points: passes in 2.5 % +- 4 sigma."""
    rng, passed = np.random.default_rng(0), 0
    for _ in range(500):
        lost, gained, _ = rng.multinomial(200, (0.15, 0.10, 0.75))
        passed += verdict_on(rate_change(lost, gained, 200, TWO_SIDED_95), 0.05, False) == "pass"
    assert passed / 500 < 0.025 + 4 * math.sqrt(0.025 * 0.975 / 500)
