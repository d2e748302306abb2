import numpy as np
import pytest

from drift.statistics import bootstrap_mean


def test_the_interval_of_a_normal_sample_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(0.5, 1.0, 400)
    interval = bootstrap_mean(values.tolist())
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / 20, rel=0.1)


def test_equal_values_have_no_spread():
    assert bootstrap_mean([0.3] * 5).low == pytest.approx(0.3)


def test_no_values_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])
