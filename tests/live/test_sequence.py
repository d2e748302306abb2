"""The boundary, the clusters and the daily differences, against hand calculation, least squares and simulation."""

import math

import numpy as np
import pytest

from drift.live.sequence import MIXTURE, Observed, boundary, difference, rate, rate_now, rates_within


def observed(dsat, user=None, chat=None) -> Observed:
    alone = np.arange(len(dsat))
    return Observed(
        np.array(dsat, dtype=float),
        alone if user is None else np.array(user),
        alone if chat is None else np.array(chat),
    )


def test_the_boundary_by_hand():
    assert boundary(7.0, 7.0, 0.05) == pytest.approx(math.sqrt(14 * math.log(2 / 0.0025)))
    assert boundary(0.0, 7.0, 0.05) == pytest.approx(math.sqrt(7 * math.log(1 / 0.0025)))


def test_a_random_walk_crosses_the_boundary_at_most_at_its_rate():
    """2,000 walks of 1,000 steps, looked at after every step."""
    steps = np.random.default_rng(0).standard_normal((2000, 1000))
    limits = np.array([boundary(v, 50.0) for v in range(1, 1001)])
    crossed = (np.abs(np.cumsum(steps, axis=1)) >= limits).any(axis=1).mean()
    assert 0.005 < crossed <= 0.05


def test_what_a_user_says_twice_counts_once():
    four = [1, 1, 0, 0]
    alone, pairs = rate(observed(four)), rate(observed(four, user=[0, 0, 1, 1]))
    assert alone.value == pairs.value == 0.5
    assert alone.radius == pytest.approx(boundary(1.0, MIXTURE) / 4)  # 4 squares of one half
    assert pairs.radius == pytest.approx(boundary(2.0, MIXTURE) / 4)  # the sums of the two users: 1 and -1
    assert pairs.factor == pytest.approx(boundary(2.0, MIXTURE) / math.sqrt(2.0))


def test_one_user_alone_is_no_certainty():
    """The scores of a single user cancel; then the chats tell how uncertain the rate is."""
    dsat = [1, 0] * 50
    assert rate(observed(dsat, user=[0] * 100)).radius == pytest.approx(rate(observed(dsat)).radius)


def test_three_replies_say_nothing():
    seen = difference(observed([1, 0, 0]), np.array([True, False, False]), np.zeros(3, dtype=int))
    assert seen is not None
    assert seen.radius > 1


def test_the_interval_of_one_look_is_wilsons():
    seen = rate_now(observed([1] * 8 + [0] * 2))
    assert seen.value - seen.radius == pytest.approx(0.4901625, abs=1e-6)
    assert seen.value + seen.radius == pytest.approx(0.9433178, abs=1e-6)


def test_the_difference_is_that_of_least_squares_with_a_constant_for_each_day():
    rng = np.random.default_rng(3)
    n = 400
    day, user = rng.integers(0, 5, n), rng.integers(0, 60, n)
    later = rng.random(n) < 0.2 + 0.15 * day
    dsat = (rng.random(n) < 0.2 + 0.1 * (day == 2) + 0.1 * later).astype(float)
    design = np.column_stack([later, *(day == each for each in range(5))]).astype(float)
    fitted, *_ = np.linalg.lstsq(design, dsat, rcond=None)
    inverse = np.linalg.inv(design.T @ design)
    residuals = dsat - design @ fitted
    sums = np.array([(design * residuals[:, None])[user == each].sum(axis=0) for each in range(60)])
    robust = (inverse @ sums.T @ sums @ inverse)[0, 0] * n / (n - 6)
    seen = difference(observed(dsat, user=user, chat=user), later, day)
    assert seen is not None
    assert seen.value == pytest.approx(fitted[0])
    assert seen.radius / seen.factor == pytest.approx(math.sqrt(robust))


def test_one_of_three_differences_may_err_a_third_as_often():
    """Each score is half of a residual of a rate of 1/4 or 3/4, so V = 200/198 x 200 x 3/16 / 4. The weight is 50."""
    dsat, later = np.array([1, 0, 0, 0, 1, 1, 1, 0] * 25), np.array([*[False] * 4, *[True] * 4] * 25)
    variance = 200 / 198 * 200 * 3 / 16 / 4
    for alpha in (0.05, 0.05 / 3):
        seen = difference(observed(dsat), later, np.zeros(200, dtype=int), alpha)
        assert seen is not None
        assert seen.value == 0.5
        assert seen.radius == pytest.approx(boundary(variance, MIXTURE / 4, alpha) / 50)


def test_neither_bad_days_nor_a_growing_share_look_like_a_difference():
    """Both models: 1 in 10 on the first day, 4 in 10 on the second; the later one answers mostly on the second."""
    blocks = [(False, 0, 200, 20), (True, 0, 20, 2), (False, 1, 20, 8), (True, 1, 200, 80)]
    rows = [(later, day, i < hits) for later, day, size, hits in blocks for i in range(size)]
    later, day, dsat = (np.array(column) for column in zip(*rows, strict=True))
    naive = dsat[later].mean() - dsat[~later].mean()
    seen = difference(observed(dsat), later, day)
    assert seen is not None
    assert naive == pytest.approx(0.2455, abs=1e-4)
    assert seen.value == pytest.approx(0.0)


def test_days_of_one_model_alone_change_nothing():
    rng = np.random.default_rng(4)
    dsat, later = (rng.random(200) < 0.3).astype(float), rng.random(200) < 0.5
    both = difference(observed(dsat), later, np.zeros(200, dtype=int))
    more = difference(
        observed([*dsat, *([1.0] * 50)]), np.array([*later, *([True] * 50)]), np.array([0] * 200 + [1] * 50)
    )
    assert both is not None
    assert more is not None
    assert (more.value, more.radius) == (pytest.approx(both.value), pytest.approx(both.radius))
    assert difference(observed([1, 0]), np.array([True, False]), np.array([0, 1])) is None


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_rates_within_have_the_error_of_the_difference_also_where_one_model_has_a_reply_a_day(share):
    rng = np.random.default_rng(5)
    days = np.repeat(np.arange(60), 20)
    later = np.tile(np.arange(20) < 20 * share, 60)
    labels = observed((rng.random(1200) < 0.3).astype(float), user=np.arange(1200) % 50)
    seen, within = difference(labels, later, days), rates_within(labels, later, days, (1.0, 1.0))
    assert seen is not None
    assert within.later - within.earlier == pytest.approx(seen.value)
    assert math.sqrt(within.variance) == pytest.approx(seen.radius / seen.factor)
    halved = rates_within(labels, later, days, (0.5, 0.5))
    assert halved.variance == pytest.approx(4 * within.variance)
