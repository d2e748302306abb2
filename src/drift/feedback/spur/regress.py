"""SPUR's rubric scores in a logistic regression; items that point the wrong way on held-out turns are dropped."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drift.feedback.judge.rubric import HARDEST, Item, Regression
from drift.feedback.judge.verdict import log_odds

INVERSE_L2_STRENGTH = 1.0
"""scikit-learn's C."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A labelled turn as the judge scored it. `weight`: the number of logged turns that it represents."""

    impacts: dict[str, int]
    dissatisfied: bool
    held_out: bool
    weight: float = 1.0
    p_server: float | None = None


@dataclass(frozen=True, slots=True)
class SignTest:
    """Held-out turns on which the item holds: `inside` its own class (dissatisfied for D items) and `outside`.

    `difference`: mean impact inside less outside. `kept`: it is above 0, and so the item points where it should.
    """

    item: str
    inside: int
    outside: int
    difference: float
    kept: bool


def sign_test(items: Sequence[Item], turns: Sequence[Scored]) -> list[SignTest]:
    held = [turn for turn in turns if turn.held_out]
    tests = []
    for item in items:
        is_dsat = item.id.startswith("D")
        own = [turn.impacts.get(item.id, 0) for turn in held if turn.dissatisfied == is_dsat]
        other = [turn.impacts.get(item.id, 0) for turn in held if turn.dissatisfied != is_dsat]
        difference = float(np.mean(own) - np.mean(other)) if own and other else 0.0
        inside, outside = (sum(impact > 0 for impact in part) for part in (own, other))
        tests.append(SignTest(item.id, inside, outside, round(difference, 4), kept=difference > 0))
    return tests


def regress(items: Sequence[Item], turns: Sequence[Scored]) -> Regression:
    """Fits the weighted turns that are not held out. The server's log-odds are a feature if every turn has them."""
    from sklearn.linear_model import LogisticRegression

    fit = [turn for turn in turns if not turn.held_out]
    with_server = all(turn.p_server is not None for turn in fit)
    x, y = _design(items, fit, with_server), np.asarray([turn.dissatisfied for turn in fit])
    model = LogisticRegression(C=INVERSE_L2_STRENGTH, max_iter=2000).fit(
        x, y, sample_weight=[turn.weight for turn in fit]
    )
    weights = model.coef_[0]
    return Regression(
        bias=round(float(model.intercept_[0]), 4),
        weights={item.id: round(float(w), 4) for item, w in zip(items, weights, strict=False)},
        server=round(float(weights[-1]), 4) if with_server else 0.0,
    )


def _design(items: Sequence[Item], turns: Sequence[Scored], with_server: bool) -> np.ndarray:
    """float64 [turns, items (+ 1)]: impacts scaled to 0..1, then the server's log-odds."""
    rows = [[turn.impacts.get(item.id, 0) / HARDEST for item in items] for turn in turns]
    if with_server:
        rows = [[*row, log_odds(turn.p_server or 0.0)] for row, turn in zip(rows, turns, strict=True)]
    return np.asarray(rows, dtype=np.float64)
