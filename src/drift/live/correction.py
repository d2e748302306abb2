"""From what the labeller says to what is true: rates and differences corrected for the labeller's errors.

With sensitivity Se and specificity Sp, a true rate r is seen as p = r Se + (1 - r)(1 - Sp), so r = (p + Sp - 1) / J,
J = Se + Sp - 1 (Rogan and Gladen 1978), and a difference d of two true rates is seen as J d: a labeller that errs alike
on both models makes every difference smaller and never turns it round.

Both uncertainties go into one interval, which holds all r (or d) that do not contradict the data (Fieller 1954):

    (p - r Se - (1 - r)(1 - Sp))^2 <= f^2 (var p + r^2 var Se + (1 - r)^2 var Sp - 2 r (1 - r) cov(Se, Sp))
    (difference seen - d J)^2      <= f^2 (var difference + d^2 var J)

Se and Sp come from audited turns, var from their Beta posteriors; f is the factor of the sequence (sequence.py), so the
interval holds at every look: the audit's error is one draw that stays, and adding it to a sequence makes crossings
rarer. Zero is in the interval of d exactly if it is in the interval of the difference seen: the audit says how large a
difference is, never whether there is one.

Assumed: the audited turns are like the others (a random sample, or one within DSAT and within the rest), and the
labeller errs alike on both models. If audits of both models contradict the latter, each gets its own Se and Sp.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drift.feedback.estimate import Diagnosis
from drift.live.sequence import Estimate, RatesWithin
from drift.statistics import POSTERIOR_DRAWS, Share, Stratum, share_of_draws

CHANCE = 2.0
"""Standard errors by which J must be above zero."""
DIFFERENT = 2.58
"""Standard errors between the Se (or Sp) of two models from which they count as different: 1 % by chance."""


@dataclass(frozen=True, slots=True)
class LabellerErrors:
    """`variance`: of sensitivity and specificity, with their covariance. `audited`: turns that they come from."""

    source: Literal["gold", "reviews"]
    audited: int
    sensitivity: Share
    specificity: Share
    variance: tuple[float, float, float]

    @property
    def power(self) -> float:
        """J: 1 for a labeller without errors, 0 for one that guesses."""
        return self.sensitivity.value + self.specificity.value - 1

    @property
    def power_variance(self) -> float:
        sensitivity, specificity, both = self.variance
        return sensitivity + specificity + 2 * both


def errors_by_truth(diagnosis: Diagnosis) -> LabellerErrors | None:
    """From a random sample of turns with their truth. None if it is too small, or the labeller guesses."""
    if not diagnosis.positives or not diagnosis.negatives:
        return None
    rng = np.random.default_rng(0)
    sensitivity = Stratum(diagnosis.positives, diagnosis.positives, diagnosis.hits)
    specificity = Stratum(diagnosis.negatives, diagnosis.negatives, diagnosis.rejections)
    draws = sensitivity.posterior(rng, POSTERIOR_DRAWS), specificity.posterior(rng, POSTERIOR_DRAWS)
    return _errors("gold", diagnosis.positives + diagnosis.negatives, *draws)


def errors_by_label(called: Stratum, others: Stratum) -> LabellerErrors | None:
    """From turns that were drawn among those labelled DSAT and among the others, as `drift review` does.

    With c the share labelled DSAT, v the share of these that is right and o the share of the others that is DSAT all
    the same: Se = c v / (c v + (1 - c) o), Sp = (1 - c)(1 - o) / ((1 - c)(1 - o) + c (1 - v)).
    """
    if not called.judged or not others.judged:
        return None
    rng = np.random.default_rng(0)
    right, missed = called.posterior(rng, POSTERIOR_DRAWS), others.posterior(rng, POSTERIOR_DRAWS)
    share = called.size / (called.size + others.size)
    hits, misses = share * right, (1 - share) * missed
    rejections, false_alarms = (1 - share) * (1 - missed), share * (1 - right)
    judged = called.judged + others.judged
    return _errors("reviews", judged, hits / (hits + misses), rejections / (rejections + false_alarms))


def _errors(
    source: Literal["gold", "reviews"],
    audited: int,
    sensitivity: NDArray[np.float64],
    specificity: NDArray[np.float64],
) -> LabellerErrors | None:
    """None if the audit does not show that the labeller does better than chance: then nothing can be corrected."""
    covariance = np.cov(sensitivity, specificity)
    means = float(sensitivity.mean()), float(specificity.mean())
    if sum(means) - 1 <= CHANCE * float((sensitivity + specificity).std()):
        return None
    first, second = share_of_draws(means[0], sensitivity), share_of_draws(means[1], specificity)
    return LabellerErrors(
        source, audited, first, second, (float(covariance[0, 0]), float(covariance[1, 1]), float(covariance[0, 1]))
    )


def differ(first: LabellerErrors, second: LabellerErrors) -> bool:
    """Do the audits of two models say that the labeller errs differently on them?"""
    gaps = (
        (first.sensitivity.value - second.sensitivity.value, first.variance[0] + second.variance[0]),
        (first.specificity.value - second.specificity.value, first.variance[1] + second.variance[1]),
    )
    return any(abs(gap) > DIFFERENT * math.sqrt(variance) for gap, variance in gaps)


def true_rate(seen: Estimate, errors: LabellerErrors | None) -> Share:
    """The true rate behind a rate that was seen; without known errors, the rate as it was seen."""
    if errors is None:
        return Share(seen.value, max(seen.value - seen.radius, 0.0), min(seen.value + seen.radius, 1.0))
    _, of_specificity, of_both = errors.variance
    excess, power, squared = seen.value - (1 - errors.specificity.value), errors.power, seen.factor**2
    value = min(max(excess / power, 0.0), 1.0)
    square = power**2 - squared * errors.power_variance
    if square <= 0:  # the audit is too small to tell anything
        return Share(value, 0.0, 1.0)
    linear = -2 * excess * power + 2 * squared * (of_specificity + of_both)
    constant = excess**2 - seen.radius**2 - squared * of_specificity
    low, high = (min(max(end, 0.0), 1.0) for end in _ends(square, linear, constant))
    return Share(value, low, high)


def true_difference(seen: Estimate, errors: LabellerErrors | None) -> Share:
    """The difference of two true rates behind one that was seen, if the labeller errs alike on both.

    Where the audit is so small that the difference may be of any size, only the end near zero is known.
    """
    power, variance = (1.0, 0.0) if errors is None else (errors.power, errors.power_variance)
    square, constant = power**2 - seen.factor**2 * variance, seen.value**2 - seen.radius**2
    low, high = -1.0, 1.0
    if square > 0:
        low, high = _ends(square, -2 * seen.value * power, constant)
    elif constant > 0:
        ends = _ends(square, -2 * seen.value * power, constant)
        low, high = (ends[1], 1.0) if seen.value > 0 else (-1.0, ends[0])
    return Share(*(min(max(number, -1.0), 1.0) for number in (seen.value / power, low, high)))


def difference_of_rates(seen: RatesWithin, factor: float, errors: tuple[LabellerErrors, LabellerErrors]) -> Share:
    """The later model's true rate minus the earlier one's, each corrected by its own errors (first order). `factor`:
    that of the difference seen."""
    value, variance = 0.0, seen.variance
    for sign, rate, own in ((-1, seen.earlier, errors[0]), (1, seen.later, errors[1])):
        true = (rate + own.specificity.value - 1) / own.power
        of_sensitivity, of_specificity, of_both = own.variance
        of_errors = true**2 * of_sensitivity + (1 - true) ** 2 * of_specificity - 2 * true * (1 - true) * of_both
        value += sign * true
        variance += of_errors / own.power**2
    reach = factor * math.sqrt(variance)
    return Share(min(max(value, -1.0), 1.0), max(value - reach, -1.0), min(value + reach, 1.0))


def _ends(square: float, linear: float, constant: float) -> tuple[float, float]:
    """The two solutions of square x^2 + linear x + constant = 0, the smaller one first."""
    root = math.sqrt(max(linear**2 - 4 * square * constant, 0.0))
    first, second = ((-linear + sign * root) / (2 * square) for sign in (-1, 1))
    return min(first, second), max(first, second)
