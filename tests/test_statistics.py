"""Estimates by hand, against scipy and scikit-learn, and against the definitions written out one draw at a time."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import cohen_kappa_score

from drift.statistics import (
    Share,
    Stratum,
    bootstrap_figures,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_runs,
    cohens_kappa,
    draw_units,
    estimate_strata,
    paired_difference,
    posterior_share,
    standard_error,
)


def test_the_interval_of_a_normal_sample_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(0.5, 1.0, 400)
    interval = bootstrap_mean(values.tolist())
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / 20, rel=0.1)


def test_equal_values_have_no_spread():
    assert bootstrap_mean([0.3] * 5).low == pytest.approx(0.3)


def test_no_values_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])


def test_a_difference_is_taken_unit_by_unit():
    before, after = [0.1, 0.9, 0.5], [0.3, 1.1, 0.7]
    difference = paired_difference(before, after)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.2, 0.2, 0.2))
    with pytest.raises(ValueError, match="shorter"):
        paired_difference(before, after[:2])


TEN_OF_ONE = [1.0] * 10 + [0.0] * 10
WHOSE = ["anna"] * 10 + [f"user {n}" for n in range(10)]


def test_the_prompts_of_one_user_are_drawn_together():
    """Ten prompts of one user, all right, beside ten users with one each, all wrong. Of eleven draws out of eleven
    users, k are that one: the share is 10 k / (10 k + 11 - k). k is 0 in 35 % of the draws and at most 3 in 98.7 %
    (at most 2 in 92.9 %), so the interval goes from 0 to 30 / 38."""
    share = bootstrap_mean(TEN_OF_ONE, units=WHOSE)
    assert (share.value, share.low, share.high) == (0.5, 0.0, 30 / 38)
    assert paired_difference([0.0] * 20, TEN_OF_ONE, units=WHOSE) == share
    alone = bootstrap_mean(TEN_OF_ONE)
    assert (alone.low, alone.high) == pytest.approx((0.3, 0.7), abs=0.01)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_units_of_one_value_each_change_no_digit(values):
    array = np.asarray(values)
    drawn = array[draw_units(len(array), seed=0)].mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    names = [f"{n * 7919 % 1009}" for n in range(len(values))]  # in no alphabetical order
    assert bootstrap_mean(values) == Share(array.mean(), low, high)
    assert bootstrap_mean(values, units=names) == Share(array.mean(), low, high)


def test_of_a_single_unit_each_value_counts():
    """No interval says how another chat would do; a width of zero would claim that it does the same."""
    assert bootstrap_mean(TEN_OF_ONE, units=["anna"] * 20) == bootstrap_mean(TEN_OF_ONE)
    assert standard_error(np.asarray(TEN_OF_ONE), ["anna"] * 20) == standard_error(np.asarray(TEN_OF_ONE))


def test_a_standard_error_counts_units():
    """Sums of deviations: +5 of the user with ten prompts, -.5 of each of ten others; sqrt(27.5 * 11 / 10) / 20."""
    values = np.asarray(TEN_OF_ONE)
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / np.sqrt(20))
    assert standard_error(values, WHOSE) == pytest.approx(np.sqrt(27.5 * 11 / 10) / 20)


def test_draws_do_not_depend_on_how_many_are_asked_for():
    """The resamples of a figure stay the same if more are added, also one at a time."""
    one_by_one = np.random.default_rng(7)
    rows = [one_by_one.integers(5, size=5) for _ in range(20)]
    np.testing.assert_array_equal(draw_units(5, 20, seed=7), rows)
    np.testing.assert_array_equal(draw_units(5, 50, seed=7)[:20], rows)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_a_ratio_over_groups_draws_whole_groups(rows):
    groups, above, below = [g for g, _, _ in rows], [a and b for _, a, b in rows], [b for _, _, b in rows]
    share = bootstrap_ratio(above, below, groups, seed=1, resamples=40)
    if not any(below):
        assert share is None
        return
    names = sorted(set(groups))
    rng, ratios = np.random.default_rng(1), []
    for _ in range(40):
        drawn = Counter(names[i] for i in rng.integers(len(names), size=len(names)))
        total = sum(drawn[g] * b for g, b in zip(groups, below, strict=True))
        if total:
            ratios.append(sum(drawn[g] * a for g, a in zip(groups, above, strict=True)) / total)
    assert share is not None
    assert share.value == sum(above) / sum(below)
    assert (share.low, share.high) == pytest.approx(tuple(np.percentile(ratios, (2.5, 97.5))))


def test_figures_of_rows_keep_groups_together():
    rows = np.asarray([1.0, 1.0, 0.0, 0.0])
    (share,) = bootstrap_figures(lambda drawn: [rows[drawn].mean()], ["a", "a", "b", "b"])
    assert share == Share(0.5, 0.0, 1.0)


def test_a_mean_is_the_same_figure_in_all_three_forms():
    values = np.random.default_rng(3).normal(size=17)
    names = [f"{i:02d}" for i in range(17)]
    (by_figure,) = bootstrap_figures(lambda drawn: [values[drawn].mean()], names, seed=5)
    by_ratio = bootstrap_ratio(values, np.ones(17), names, seed=5)
    by_mean = bootstrap_mean(values.tolist(), seed=5)
    assert by_ratio is not None
    for share in (by_figure, by_ratio):
        assert (share.value, share.low, share.high) == pytest.approx((by_mean.value, by_mean.low, by_mean.high))


def test_runs_and_prompts_are_both_resampled():
    apart = np.asarray([[0.0] * 50, [1.0] * 50])  # runs differ, prompts do not: two of one run are drawn often
    assert (bootstrap_runs(apart).low, bootstrap_runs(apart).high) == (pytest.approx(0.0), pytest.approx(1.0))
    with pytest.raises(ValueError, match="no values"):
        bootstrap_runs(np.empty((0, 3)))


def test_a_share_has_the_posterior_of_jeffreys():
    share = posterior_share(3, 10, draws=100_000)
    assert share is not None
    assert share.value == 0.3
    assert (share.low, share.high) == pytest.approx(tuple(beta(3.5, 7.5).ppf([0.025, 0.975])), abs=5e-3)
    assert posterior_share(0, 0) is None


def test_strata_by_hand():
    """10 called, 3 of 4 judged positive; 90 others, 1 of 9: 7.5 found, 10 missed."""
    estimate = estimate_strata(Stratum(10, 4, 3), Stratum(90, 9, 1))
    assert estimate.prevalence is not None
    assert estimate.recall is not None
    assert estimate.prevalence.value == pytest.approx(17.5 / 100)
    assert estimate.recall.value == pytest.approx(7.5 / 17.5)
    assert estimate.recall.low < 7.5 / 17.5 < estimate.recall.high


def test_an_empty_stratum_needs_no_judged_item_and_a_full_one_does():
    alone = estimate_strata(Stratum(10, 4, 3), Stratum(0, 0, 0))
    assert alone.recall == Share(1.0, 1.0, 1.0)
    assert alone.prevalence is not None
    assert alone.prevalence.value == 0.75
    assert estimate_strata(Stratum(10, 4, 3), Stratum(1, 0, 0)).recall is None
    assert estimate_strata(Stratum(0, 0, 0), Stratum(0, 0, 0)).prevalence is None
    nothing_positive = estimate_strata(Stratum(10, 4, 0), Stratum(5, 5, 0))
    assert nothing_positive.recall is None
    assert nothing_positive.prevalence is not None


def kappa_written_out(first, second):
    """(p_o - p_e) / (1 - p_e), with p_e from the two margins; undefined if p_e = 1."""
    n = len(first)
    if not n:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    ours, theirs = Counter(first), Counter(second)
    chance = sum(ours[name] * theirs[name] for name in ours) / n**2
    return None if chance == 1 else (agreed - chance) / (1 - chance)


@given(st.lists(st.tuples(*[st.sampled_from(["DSAT", "SAT", "NEUTRAL"])] * 2), max_size=40))
def test_kappa_is_cohens(rows):
    """Random tables and the degenerate ones: no items, one class on one side, one class on both."""
    first, second = [a for a, _ in rows], [b for _, b in rows]
    expected = kappa_written_out(first, second)
    kappa = cohens_kappa(first, second)
    assert kappa == (None if expected is None else pytest.approx(expected, abs=1e-12))
    same = [a == "DSAT" for a in first], [b == "DSAT" for b in second]
    expected = kappa_written_out(*same)
    assert cohens_kappa(*same) == (None if expected is None else pytest.approx(expected, abs=1e-12))
    if kappa is not None:
        assert kappa == cohen_kappa_score(first, second)


@pytest.mark.parametrize(
    ("first", "second", "kappa"),
    [
        ([], [], None),
        (["DSAT"], ["DSAT"], None),
        (["SAT"] * 5, ["SAT"] * 5, None),
        (["SAT"] * 4, ["DSAT"] * 4, 0.0),
        (["SAT"] * 4, ["SAT", "SAT", "DSAT", "DSAT"], 0.0),
        (["SAT", "DSAT"], ["DSAT", "SAT"], -1.0),
        (["SAT", "DSAT"], ["SAT", "DSAT"], 1.0),
    ],
)
def test_kappa_of_degenerate_tables_by_hand(first, second, kappa):
    assert cohens_kappa(first, second) == kappa
