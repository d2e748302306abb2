"""Prevalence and recall out of samples and imperfect labels."""

import numpy as np
import pytest

from drift.feedback.estimate import Diagnosis, Slice, cascade_estimate, rogan_gladen


def test_rogan_gladen_by_hand():
    told = rogan_gladen(300, 1000, Diagnosis(positives=100, hits=80, negatives=200, rejections=180))
    assert told is not None
    assert told.value == pytest.approx((0.3 + 0.9 - 1) / (0.8 + 0.9 - 1), abs=1e-4)  # 0.2857
    assert told.low < told.value < told.high
    assert rogan_gladen(300, 1000, Diagnosis(10, 5, 10, 5)) is None  # no better than chance
    assert rogan_gladen(300, 1000, Diagnosis(0, 0, 10, 10)) is None


def test_rogan_gladens_interval_covers():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        true, se, sp = 0.15, 0.7, 0.92
        called = rng.binomial(2000, true * se + (1 - true) * (1 - sp))
        told = rogan_gladen(
            int(called), 2000, Diagnosis(80, int(rng.binomial(80, se)), 300, int(rng.binomial(300, sp)))
        )
        covered += told is not None and told.low <= true <= told.high
    assert covered >= 275  # 95 % of 300 is 285


def test_the_audit_slice_makes_recall_unbiased():
    told = cascade_estimate(Slice(200, 200, 100), Slice(1000, 100, 2))
    assert told.prevalence is not None
    assert told.recall is not None
    assert told.prevalence.value == pytest.approx((100 + 20) / 1200, abs=1e-4)
    assert told.recall.value == pytest.approx(100 / 120, abs=1e-4)
    assert told.recall.low < 100 / 120 < told.recall.high < 1.0


def test_without_an_audit_nothing_is_claimed():
    assert cascade_estimate(Slice(200, 200, 100), Slice(1000, 0, 0)).recall is None
    assert cascade_estimate(Slice(0, 0, 0), Slice(0, 0, 0)).prevalence is None
