"""Compares labels with the truth that people gave: agreement, confusion, kappa, calibration, precision by coverage."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drift.feedback.estimate import Diagnosis
from drift.records import FeedbackLabel, Verdict
from drift.statistics import Share, bootstrap_ratio, cohens_kappa

VERDICTS: tuple[Verdict, ...] = ("DSAT", "SAT", "NEUTRAL", "ABSTAIN")
BINS = 10  # of p_dsat
POINTS = 20  # of the curve, at most
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Compared:
    """The label of a reply, and the truth about the reply."""

    label: FeedbackLabel
    truth: Verdict


@dataclass(frozen=True, slots=True)
class Bin:
    """Turns of one tenth of the probabilities: the mean p_dsat and the share that was dissatisfied."""

    predicted: float
    observed: float
    turns: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """`skill`: 1 - Brier score / the Brier score of the base rate; above 0 the probabilities carry information."""

    bins: tuple[Bin, ...]
    brier: float
    skill: float
    error: float
    turns: int


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Precision, recall and coverage if every turn with p_dsat of at least `threshold` is called DSAT."""

    threshold: float
    coverage: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """`confusion`: truth -> label -> turns. Intervals: 95 %, bootstrap over conversations. None: cannot be computed."""

    turns: int
    conversations: int
    confusion: dict[str, dict[str, int]]
    agreement: Share | None
    kappa: float | None
    kappa_dsat: float | None
    precision: Share | None
    recall: Share | None
    auroc: float | None
    calibration: Calibration | None
    curve: tuple[CoveragePoint, ...]


def compare(rows: Sequence[Compared]) -> Agreement:
    truth = [row.truth for row in rows]
    labels = [row.label.label for row in rows]
    confusion = {
        name: dict(Counter(b for a, b in zip(truth, labels, strict=True) if a == name)) for name in VERDICTS[:3]
    }
    scored = [(row.label.p_dsat, row.truth == "DSAT") for row in rows if row.label.p_dsat is not None]
    p, y = np.asarray([p for p, _ in scored], dtype=float), np.asarray([y for _, y in scored], dtype=bool)
    groups = [row.label.conversation_id for row in rows]
    is_dsat, called = np.asarray(truth) == "DSAT", np.asarray(labels) == "DSAT"
    both = len(set(y.tolist())) == 2
    return Agreement(
        turns=len(rows),
        conversations=len(set(groups)),
        confusion=confusion,
        agreement=_ratio(np.asarray(truth) == np.asarray(labels), np.ones(len(rows), dtype=bool), groups),
        kappa=_kappa(truth, labels),
        kappa_dsat=_kappa(is_dsat.tolist(), called.tolist()),
        precision=_ratio(is_dsat & called, called, groups),
        recall=_ratio(is_dsat & called, is_dsat, groups),
        auroc=_auroc(p, y) if both else None,
        calibration=calibrate(p, y) if both else None,
        curve=precision_coverage(p, y) if both else (),
    )


def diagnosis(rows: Sequence[Compared]) -> Diagnosis:
    """Count the labeller's hits and rejections on the turns on which it did not abstain."""
    judged = [row for row in rows if row.label.label != "ABSTAIN"]
    positives = [row for row in judged if row.truth == "DSAT"]
    negatives = [row for row in judged if row.truth != "DSAT"]
    hits = sum(row.label.label == "DSAT" for row in positives)
    return Diagnosis(len(positives), hits, len(negatives), sum(row.label.label != "DSAT" for row in negatives))


def _kappa(first: Sequence[str | bool], second: Sequence[str | bool]) -> float | None:
    kappa = cohens_kappa(first, second)
    return None if kappa is None else round(kappa, 4)


def calibrate(p: np.ndarray, y: np.ndarray) -> Calibration:
    """`p` float [n], `y` bool [n]: predicted probabilities and outcomes."""
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    bins = tuple(
        Bin(round(float(p[place == b].mean()), 4), round(float(y[place == b].mean()), 4), int((place == b).sum()))
        for b in range(BINS)
        if (place == b).any()
    )
    brier, base = float(((p - y) ** 2).mean()), float(y.mean())
    error = sum(part.turns * abs(part.predicted - part.observed) for part in bins) / len(p)
    return Calibration(bins, round(brier, 4), round(1 - brier / (base * (1 - base)), 4), round(error, 4), len(p))


def precision_coverage(p: np.ndarray, y: np.ndarray) -> tuple[CoveragePoint, ...]:
    """From the highest p_dsat down: at most POINTS thresholds; turns of equal probability stay together."""
    order = np.argsort(-p, kind="stable")
    ends = [i for i in range(len(p)) if i + 1 == len(p) or p[order[i]] != p[order[i + 1]]]
    kept = [ends[round(k)] for k in np.linspace(0, len(ends) - 1, min(POINTS, len(ends)))]
    hits = np.cumsum(y[order])
    return tuple(
        CoveragePoint(
            round(float(p[order[i]]), 4), round((i + 1) / len(p), 4), round(float(hits[i] / (i + 1)), 4),
            round(float(hits[i] / y.sum()), 4),
        )
        for i in dict.fromkeys(kept)
    )  # fmt: skip


def _auroc(p: np.ndarray, y: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(y, p)), 4)


def _ratio(part: np.ndarray, whole: np.ndarray, groups: Sequence[str]) -> Share | None:
    """sum(part) / sum(whole), with conversations drawn with replacement."""
    share = bootstrap_ratio(part, whole, groups, resamples=RESAMPLES)
    return share and share.rounded()
