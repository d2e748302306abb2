"""Prevalence and recall of dissatisfaction out of imperfect labels and samples, with 95 % intervals."""

import math
from dataclasses import dataclass

from drift.statistics import Share, Stratum, Z, estimate_strata


@dataclass(frozen=True, slots=True)
class Slice:
    """Turns of which some were judged at random: how many there are, how many were judged, and judged DSAT."""

    size: int
    judged: int
    dsat: int


@dataclass(frozen=True, slots=True)
class CascadeEstimate:
    """By the judge's word: the share of dissatisfied turns, and which part of them lies in the band that it sees.

    None where a slice has no judged turn: nothing can be said without the audit.
    """

    band: Slice
    rest: Slice
    prevalence: Share | None
    recall: Share | None


def cascade_estimate(band: Slice, rest: Slice) -> CascadeEstimate:
    """Stratified: each slice's share of DSAT has a Beta posterior (Jeffreys' prior), weighted by the slice's size."""
    seen, unseen = (Stratum(part.size, part.judged, part.dsat) for part in (band, rest))
    estimate = estimate_strata(seen, unseen)
    prevalence, recall = (share and share.rounded() for share in (estimate.prevalence, estimate.recall))
    return CascadeEstimate(band, rest, prevalence, recall)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of a labeller: of `positives` truly dissatisfied turns it found `hits`; of `negatives` it left
    `rejections` alone."""

    positives: int
    hits: int
    negatives: int
    rejections: int


def rogan_gladen(called: int, total: int, diagnosis: Diagnosis) -> Share | None:
    """True prevalence behind `called` of `total` turns that the labeller calls DSAT (Rogan and Gladen 1978).

    (p + Sp - 1) / (Se + Sp - 1), with the interval of Lang and Reiczigel (2014), which carries the uncertainty of the
    labeller's sensitivity and specificity. None where these say nothing (their sum is not above 1, or one is unknown).
    """
    if not total or not diagnosis.positives or not diagnosis.negatives:
        return None
    if diagnosis.hits / diagnosis.positives + diagnosis.rejections / diagnosis.negatives <= 1:
        return None
    point = _corrected(called / total, diagnosis.hits / diagnosis.positives, diagnosis.rejections / diagnosis.negatives)
    n, n_se, n_sp = total + Z * Z, diagnosis.positives + 2, diagnosis.negatives + 2
    p, se, sp = (called + Z * Z / 2) / n, (diagnosis.hits + 1) / n_se, (diagnosis.rejections + 1) / n_sp
    if se + sp <= 1:
        return None
    middle = _corrected(p, se, sp)
    of_se, of_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * Z * Z * (middle * of_se - (1 - middle) * of_sp)
    spread = Z * math.sqrt(p * (1 - p) / n + middle**2 * of_se + (1 - middle) ** 2 * of_sp) / (se + sp - 1)
    low, high = (min(1.0, max(0.0, middle + shift + sign * spread)) for sign in (-1, 1))
    return Share(min(1.0, max(0.0, point)), low, high).rounded()


def _corrected(p: float, sensitivity: float, specificity: float) -> float:
    return (p + specificity - 1) / (sensitivity + specificity - 1)
