"""Agreement, kappa, calibration and curves, by hand and against scikit-learn."""

import numpy as np
import pytest

from drift.feedback.trust.agreement import Compared, calibrate, compare, diagnosis, precision_coverage
from drift.records import FeedbackLabel


def compared(label: str, truth: str, p: float | None, name: str = "c") -> Compared:
    return Compared(FeedbackLabel(name, 1, 2, label, "embedded", "1", p_dsat=p), truth)


ROWS = [
    compared("DSAT", "DSAT", 0.9, "a"),
    compared("DSAT", "NEUTRAL", 0.7, "b"),
    compared("NEUTRAL", "DSAT", 0.4, "b"),
    compared("SAT", "SAT", 0.1, "c"),
    compared("NEUTRAL", "NEUTRAL", 0.2, "d"),
    compared("ABSTAIN", "DSAT", None, "e"),
]


def test_by_hand():
    told = compare(ROWS)
    assert told.confusion == {
        "DSAT": {"DSAT": 1, "NEUTRAL": 1, "ABSTAIN": 1},
        "SAT": {"SAT": 1},
        "NEUTRAL": {"DSAT": 1, "NEUTRAL": 1},
    }
    assert told.precision is not None
    assert told.recall is not None
    assert told.agreement is not None
    assert (told.precision.value, told.recall.value, told.agreement.value) == (0.5, 0.3333, 0.5)
    assert told.precision.low <= 0.5 <= told.precision.high
    assert told.auroc == pytest.approx(5 / 6, abs=1e-4)
    known = diagnosis(ROWS)
    assert (known.positives, known.hits, known.negatives, known.rejections) == (2, 1, 3, 2)


def test_kappa_by_hand():
    told = compare([compared("DSAT", "DSAT", None), compared("SAT", "DSAT", None), compared("SAT", "SAT", None)] * 2)
    assert told.kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9), abs=1e-4)  # chance: (2*1 + 1*2) / 9
    assert told.kappa_dsat == told.kappa
    assert compare([compared("DSAT", "DSAT", None)]).kappa is None


def test_calibration_and_curve_by_hand():
    p, y = np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, False, True, False])
    told = calibrate(p, y)
    assert [(b.predicted, b.observed, b.turns) for b in told.bins] == [(0.05, 0.0, 2), (0.95, 0.5, 2)]
    assert told.brier == pytest.approx((2 * 0.05**2 + 0.05**2 + 0.95**2) / 4, abs=1e-4)
    assert told.skill == pytest.approx(1 - told.brier / (0.25 * 0.75), abs=1e-3)
    assert told.error == pytest.approx((0.05 + 0.45) / 2, abs=1e-4)
    curve = precision_coverage(p, y)
    assert [(c.threshold, c.precision, c.recall, c.coverage) for c in curve] == [
        (0.95, 0.5, 1.0, 0.5),
        (0.05, 0.25, 1.0, 1.0),
    ]


def test_nothing_to_compare_with_claims_nothing():
    told = compare([compared("NEUTRAL", "NEUTRAL", 0.1)])
    assert (told.precision, told.recall, told.auroc, told.calibration, told.curve) == (None, None, None, None, ())
