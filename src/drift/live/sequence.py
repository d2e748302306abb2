"""Rates and differences of rates whose 95 % intervals hold at every look, however often one looks.

A confidence sequence is a row of intervals, one per moment, that all hold the truth at once with probability 95 %. So
one may look every day and stop as soon as zero is outside. The boundary is the two-sided normal mixture of Robbins
(Howard, Ramdas, McAuliffe and Sekhon 2021, eq. 14), used on an estimated variance as in the asymptotic confidence
sequences of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024, theorem 2.2): for a sum S of mean zero with
cumulative variance V,

    P(there is a time at which |S| >= sqrt((V + k) log((V + k) / (k a^2)))) <= a.

It is asymptotic: it leans on the central limit theorem, which early looks do not have yet. There the constant k makes
the interval wider than the theorem asks (at V = 0 it is not empty), and benchmarks/live_coverage.py measures what is
left.

Turns of one user are not independent. V is the sum of squares of the users' score sums (the cluster-robust variance of
Liang and Zeger 1986), so what a user says twice counts once. A user who comes back makes the sequence move less from
look to look than a sum of independent steps of the same variance; by Slepian's inequality that crosses a boundary less
often. The same holds for the labeller's errors (correction.py), which are the same at every look.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.statistics import Z

ALPHA = 0.05
PLANNED_REPLIES, PLANNED_RATE = 10_000, 0.15
"""The size of readout at which the intervals are tightest, set once and for all: a choice by the data would void them.
At a tenth or at ten times as many replies they are 1.27 and 1.07 times as wide as the best choice for that size."""
_BEST = -2 * math.log(ALPHA) + math.log(-2 * math.log(ALPHA) + 1)  # V / k at which the boundary is tightest
MIXTURE = PLANNED_REPLIES * PLANNED_RATE * (1 - PLANNED_RATE) / _BEST
"""k of a rate. The score of a difference has a quarter of its variance, and so has its k."""
LEAST_VARIANCE = 1.0
"""V is taken to be at least this, as of about 8 replies: at the first looks all of them may have the same label."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value` with the half-width of its interval, and `factor`: that half-width in standard errors."""

    value: float
    radius: float
    factor: float


@dataclass(frozen=True, slots=True)
class Observed:
    """Labels of n judged replies. `dsat`: float [n], 1 or 0; `user`, `chat`: int [n], codes from 0."""

    dsat: NDArray[np.float64]
    user: NDArray[np.int64]
    chat: NDArray[np.int64]

    def until(self, end: int) -> "Observed":
        """The first `end` replies."""
        return Observed(self.dsat[:end], self.user[:end], self.chat[:end])

    def variance(self, scores: NDArray[np.float64]) -> float:
        """Sum of squares of the clusters' score sums: by users, or by chats where that is more.

        With few users the sums nearly cancel (with a single one they do), which must not look like certainty.
        """
        by_user, by_chat = (np.bincount(codes, scores) for codes in (self.user, self.chat))
        return float(max(by_user @ by_user, by_chat @ by_chat))


def boundary(variance: float, mixture: float, alpha: float = ALPHA) -> float:
    """How far a sum of this cumulative variance strays from its mean, at any time, with probability `alpha`."""
    return math.sqrt((variance + mixture) * math.log((variance + mixture) / (mixture * alpha**2)))


def rate(observed: Observed) -> Estimate:
    """The share of replies that are labelled DSAT, always valid. Needs a reply."""
    value, size = float(observed.dsat.mean()), len(observed.dsat)
    return _estimate(value, observed.variance(observed.dsat - value), size, MIXTURE)


def rate_now(observed: Observed) -> Estimate:
    """The same with an ordinary 95 % interval, that of Wilson (1927) with the clusters' variance: for one look."""
    size = len(observed.dsat)
    centre = (float(observed.dsat.sum()) + Z * Z / 2) / (size + Z * Z)
    variance = observed.variance(observed.dsat - float(observed.dsat.mean()))
    return Estimate(centre, Z * math.sqrt(variance + Z * Z / 4) / (size + Z * Z), Z)


def difference(
    observed: Observed, later: NDArray[np.bool_], period: NDArray[np.int64], alpha: float = ALPHA
) -> Estimate | None:
    """The rate of one model minus the rate of another, within each period (a day), always valid at 1 - `alpha`.

    `later`: bool [n], whose reply it is; `period`: int [n], codes from 0. It is the coefficient of `later` in a least
    squares fit with a constant for every period: the mean of the daily differences, weighted by n1 n2 / (n1 + n2)
    (Mantel and Haenszel). So neither better and worse days nor a share of traffic that changes shift it. Days on which
    one model alone answered say nothing and have weight zero. None if no day has both.
    """
    size, of_later = np.bincount(period), np.bincount(period, later)
    shared = (of_later > 0) & (of_later < size)
    if not shared.any():
        return None
    contrast = later - (of_later / np.maximum(size, 1))[period]
    weight = float(contrast @ contrast)
    value = float(contrast @ observed.dsat) / weight
    daily = (np.bincount(period, observed.dsat) / np.maximum(size, 1))[period]
    scores = contrast * (observed.dsat - daily - value * contrast)
    replies, constants = int(size[shared].sum()), int(shared.sum()) + 1
    spent = replies / max(replies - constants, 1)  # the fitted constants make residuals smaller than errors
    return _estimate(value, spent * observed.variance(scores), weight, MIXTURE / 4, alpha)


@dataclass(frozen=True, slots=True)
class RatesWithin:
    """Rates of two models over the same periods, weighted as `difference` weights them, and the variance of the
    difference of their true rates."""

    earlier: float
    later: float
    variance: float


def rates_within(
    observed: Observed, later: NDArray[np.bool_], period: NDArray[np.int64], powers: tuple[float, float]
) -> RatesWithin:
    """The mean of each model's daily rates with the same weights n1 n2 / (n1 + n2), as in `difference`, for a labeller
    that errs differently on the two: a true rate is linear in the rate that is seen, so the difference of the corrected
    means is the weighted mean of the daily differences of corrected rates.

    `powers`: J of the earlier and of the later model, by which what is seen becomes true. Needs a day with both.
    """
    size, of_later = np.bincount(period), np.bincount(period, later)
    weights = of_later * (size - of_later) / np.maximum(size, 1)
    total, shared = float(weights.sum()), weights > 0
    contrast = later - (of_later / np.maximum(size, 1))[period]
    pooled = (np.bincount(period, observed.dsat) / np.maximum(size, 1))[period]
    # as in `difference`: from its own daily mean, the one reply of a day would be no error at all
    errors = observed.dsat - pooled - float(contrast @ observed.dsat) / float(contrast @ contrast) * contrast
    means, scores = [], np.zeros(len(period))
    for is_model, sign, power in ((~later, -1.0, powers[0]), (later, 1.0, powers[1])):
        counts = np.maximum(np.bincount(period, is_model), 1)
        daily = np.bincount(period, observed.dsat * is_model) / counts
        means.append(float(weights @ daily) / total)
        share = (weights / counts / total)[period] * is_model
        scores += sign * share * errors / power
    replies, constants = int(size[shared].sum()), int(shared.sum()) + 1
    spent = replies / max(replies - constants, 1)
    least = LEAST_VARIANCE / (total * min(powers)) ** 2  # as of a difference, whose scores are `total` times as large
    return RatesWithin(means[0], means[1], max(spent * observed.variance(scores), least))


def _estimate(value: float, variance: float, weight: float, mixture: float, alpha: float = ALPHA) -> Estimate:
    variance = max(variance, LEAST_VARIANCE)
    reach = boundary(variance, mixture, alpha)
    return Estimate(value, reach / weight, reach / math.sqrt(variance))
