"""Correction for the labeller's errors, against hand calculation and simulation."""

import numpy as np
import pytest

from drift.feedback.estimate import Diagnosis, rogan_gladen
from drift.live.correction import (
    LabellerErrors,
    differ,
    difference_of_rates,
    errors_by_label,
    errors_by_truth,
    true_difference,
    true_rate,
)
from drift.live.sequence import Estimate, RatesWithin
from drift.statistics import Stratum


def known(sensitivity: float, specificity: float, audited: int = 10**7, rate: float = 0.2) -> LabellerErrors:
    positives = round(audited * rate)
    negatives = audited - positives
    errors = errors_by_truth(
        Diagnosis(positives, round(positives * sensitivity), negatives, round(negatives * specificity))
    )
    assert errors is not None
    return errors


def test_rogan_and_gladen_by_hand():
    """p = .3, Se = .8, Sp = .9: r = (.3 + .9 - 1) / (.8 + .9 - 1) = .2 / .7; the ends likewise."""
    true = true_rate(Estimate(0.3, 0.02, 3.0), known(0.8, 0.9))
    assert (true.value, true.low, true.high) == pytest.approx((0.2 / 0.7, 0.18 / 0.7, 0.22 / 0.7), abs=2e-3)


def test_without_an_audit_nothing_is_corrected():
    rate, gap = true_rate(Estimate(0.05, 0.1, 3.0), None), true_difference(Estimate(0.05, 0.02, 3.0), None)
    assert (rate.value, rate.low, rate.high) == pytest.approx((0.05, 0.0, 0.15))
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.05, 0.03, 0.07))


def test_a_labeller_that_is_wrong_in_a_quarter_halves_the_difference():
    true = true_difference(Estimate(0.05, 0.01, 3.0), known(0.75, 0.75))
    assert (true.value, true.low, true.high) == pytest.approx((0.1, 0.08, 0.12), abs=1e-3)


@pytest.mark.parametrize("audited", [40, 400, 40_000])
@pytest.mark.parametrize(("value", "sign"), [(0.031, 1), (-0.031, -1), (0.029, 0), (-0.029, 0)])
def test_the_audit_never_decides_whether_there_is_a_difference(audited: int, value: float, sign: int):
    true = true_difference(Estimate(value, 0.03, 3.0), known(0.7, 0.9, audited))
    assert (true.low > 0) - (true.high < 0) == sign
    assert true.low <= true.value <= true.high


def test_with_a_tiny_audit_the_difference_may_be_of_any_size():
    true = true_difference(Estimate(0.2, 0.03, 3.0), known(0.6, 0.9, 40))
    assert true.low > 0
    assert true.high == 1.0
    unclear = true_difference(Estimate(0.02, 0.03, 3.0), known(0.6, 0.9, 40))
    assert unclear.low < 0 < unclear.high
    assert true_rate(Estimate(0.2, 0.03, 3.0), known(0.6, 0.9, 40)).high == 1.0


def test_for_one_look_it_agrees_with_lang_and_reiczigel():
    """The interval that `drift label --report` uses. 150 of 1,000 called; Se 65 of 100, Sp 380 of 400."""
    audit = Diagnosis(100, 65, 400, 380)
    errors, theirs = errors_by_truth(audit), rogan_gladen(150, 1000, audit)
    assert errors is not None
    assert theirs is not None
    ours = true_rate(Estimate(0.15, 1.96 * (0.15 * 0.85 / 1000) ** 0.5, 1.96), errors)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=0.012)


def test_the_interval_holds_with_both_uncertainties():
    """200 draws: labels of 1,000 replies and an audit of 60 dissatisfied and 240 other turns, one look at 95 %."""
    rng = np.random.default_rng(0)
    truth, sensitivity, specificity = 0.2, 0.7, 0.9
    seen = truth * sensitivity + (1 - truth) * (1 - specificity)
    held = 0
    for _ in range(200):
        share = rng.binomial(1000, seen) / 1000
        errors = errors_by_truth(Diagnosis(60, rng.binomial(60, sensitivity), 240, rng.binomial(240, specificity)))
        true = true_rate(Estimate(share, 1.96 * (share * (1 - share) / 1000) ** 0.5, 1.96), errors)
        held += true.low <= truth <= true.high
    assert 0.92 <= held / 200 <= 0.99


def test_reviews_are_weighted_by_what_they_were_drawn_from():
    """Of 1,000 labelled DSAT 80 % are; of 9,000 others 5 %. Se = 800 / 1250; Sp = 8550 / 8750."""
    errors = errors_by_label(Stratum(1000, 10_000, 8_000), Stratum(9000, 10_000, 500))
    assert errors is not None
    assert errors.sensitivity.value == pytest.approx(800 / 1250, abs=2e-3)
    assert errors.specificity.value == pytest.approx(8550 / 8750, abs=1e-3)
    assert errors.audited == 20_000
    assert errors_by_label(Stratum(10, 0, 0), Stratum(10, 5, 1)) is None


def test_a_labeller_that_guesses_says_nothing():
    assert errors_by_truth(Diagnosis(100, 50, 100, 50)) is None
    assert errors_by_truth(Diagnosis(0, 0, 100, 50)) is None


def test_errors_that_differ_between_models_are_corrected_for_each():
    """The same 20 % are seen as .8 * .2 + .1 * .8 = .24 of one model and .4 * .2 + .02 * .8 = .096 of the other."""
    first, second = known(0.8, 0.9), known(0.4, 0.98)
    assert differ(first, second)
    assert not differ(known(0.8, 0.9, 100), known(0.75, 0.9, 100))
    seen = RatesWithin(0.24, 0.096, 0.01**2 / 0.7**2 + 0.01**2 / 0.38**2)
    true = difference_of_rates(seen, 3.0, (first, second))
    assert true.value == pytest.approx(0.0, abs=2e-3)
    assert true.high == pytest.approx(3 * (0.01**2 / 0.7**2 + 0.01**2 / 0.38**2) ** 0.5, abs=2e-3)
