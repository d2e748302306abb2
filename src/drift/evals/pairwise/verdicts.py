"""Figures of the judgements: win rate with its interval, ties, unscored items, length control, and by subtype."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drift.evals.alpaca_eval.length_control import Training, fit
from drift.statistics import bootstrap_mean, units_of

TIE = 0.05
"""A mean preference this near to 1/2 is a tie. Two orders that contradict each other give exactly 1/2."""
FEWEST = 20
"""Scored comparisons below which no length control is fitted."""


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """One item. `preference` in [0, 1]: the mean of both orders, 1 is for the model under test; None: unscored.

    `length_difference`: characters of the other's reply minus those of the model's.
    """

    item_id: str
    conversation_id: str
    user: str
    chat: str
    subtype: str
    preference: float | None
    length_difference: int
    unscored_reason: str | None = None
    position_bias: float | None = None


@dataclass(frozen=True, slots=True)
class SubtypeResult:
    win_rate: float
    low: float
    high: float
    scored: int


@dataclass(frozen=True, slots=True)
class PairwiseResult:
    """Rates in per cent; a tie is half a win. `low`, `high`: 95 % bootstrap interval over `units` users (`units_of`).

    `position_bias`: how much more the reply shown second is preferred (0: no bias; None: judged in one order only).
    """

    win_rate: float | None
    low: float | None
    high: float | None
    length_controlled_win_rate: float | None
    wins: int
    losses: int
    ties: int
    unscored: int
    unscored_reasons: dict[str, int]
    scored: int
    units: int
    mean_length_difference: float | None
    position_bias: float | None
    subtypes: dict[str, SubtypeResult]


def summarise(verdicts: Sequence[PairVerdict]) -> PairwiseResult:
    """An item without a preference counts as unscored, not as a tie or a loss."""
    scored = [verdict for verdict in verdicts if verdict.preference is not None]
    reasons = [verdict.unscored_reason or "unknown" for verdict in verdicts if verdict.preference is None]
    preferences = _preferences(scored)
    overall = _rate(scored) if scored else None
    biases = [verdict.position_bias for verdict in scored if verdict.position_bias is not None]
    subtypes = {verdict.subtype for verdict in scored}
    return PairwiseResult(
        win_rate=overall.win_rate if overall else None,
        low=overall.low if overall else None,
        high=overall.high if overall else None,
        length_controlled_win_rate=_length_controlled(scored),
        wins=int((preferences > 0.5 + TIE).sum()),
        losses=int((preferences < 0.5 - TIE).sum()),
        ties=int((np.abs(preferences - 0.5) <= TIE).sum()),
        unscored=len(reasons),
        unscored_reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        scored=len(scored),
        units=len(set(units_of(scored))),
        mean_length_difference=float(np.mean([v.length_difference for v in scored])) if scored else None,
        position_bias=float(np.mean(biases)) if biases else None,
        subtypes={name: _rate([v for v in scored if v.subtype == name]) for name in sorted(subtypes)},
    )


def _preferences(scored: Sequence[PairVerdict]) -> np.ndarray:
    """float64 [N]."""
    return np.array([verdict.preference for verdict in scored], dtype=np.float64)


def _rate(scored: Sequence[PairVerdict]) -> SubtypeResult:
    """The mean preference of at least one item; users are resampled, because the items of one are alike."""
    share = bootstrap_mean(_preferences(scored), units=units_of(scored))
    return SubtypeResult(100 * share.value, 100 * share.low, 100 * share.high, len(scored))


def _length_controlled(scored: Sequence[PairVerdict]) -> float | None:
    """100 sigmoid(theta) of logit p = phi tanh(dlen / std(dlen)) + theta: AlpacaEval's model without its instructions.

    None for too few comparisons, if all length differences are equal (nothing to control for), and if all comparisons
    are won or all are lost (theta has no finite value).
    """
    differences = np.array([verdict.length_difference for verdict in scored], dtype=np.float64)
    preferences = _preferences(scored)
    if len(scored) < FEWEST or differences.std(ddof=1) == 0 or set(preferences.tolist()) in ({0.0}, {1.0}):
        return None
    features = np.column_stack([np.tanh(differences / differences.std(ddof=1)), np.ones(len(scored))])
    _, theta = fit(Training(features, preferences, np.ones(len(scored))))
    return float(100 / (1 + np.exp(-theta)))
