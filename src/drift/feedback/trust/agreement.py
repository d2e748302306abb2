"""Labels against the truth that people gave: agreement, confusion, kappa, calibration and what coverage costs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drift.feedback.estimate import Diagnosis
from drift.records import FeedbackLabel, Verdict
from drift.statistics import Share, bootstrap_ratio, cohens_kappa

VERDICTS: tuple[Verdict, ...] = ("DSAT", "SAT", "NEUTRAL", "ABSTAIN")
BINS = 10
POINTS = 20
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Compared:
    """A reply with the label that counts and the truth about it."""

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
    """`skill`: 1 - Brier score / that of always saying the base rate; above 0 the probabilities say something."""

    bins: tuple[Bin, ...]
    brier: float
    skill: float
    error: float
    turns: int


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Calling DSAT what has p_dsat of at least `threshold`."""

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
    told = [row.label.label for row in rows]
    confusion = {name: dict(Counter(b for a, b in zip(truth, told, strict=True) if a == name)) for name in VERDICTS[:3]}
    scored = [(row.label.p_dsat, row.truth == "DSAT") for row in rows if row.label.p_dsat is not None]
    p, y = np.asarray([p for p, _ in scored], dtype=float), np.asarray([y for _, y in scored], dtype=bool)
    groups = [row.label.conversation_id for row in rows]
    is_dsat, called = np.asarray(truth) == "DSAT", np.asarray(told) == "DSAT"
    both = len(set(y.tolist())) == 2
    return Agreement(
        turns=len(rows),
        conversations=len(set(groups)),
        confusion=confusion,
        agreement=_ratio(np.asarray(truth) == np.asarray(told), np.ones(len(rows), dtype=bool), groups),
        kappa=_kappa(truth, told),
        kappa_dsat=_kappa(is_dsat.tolist(), called.tolist()),
        precision=_ratio(is_dsat & called, called, groups),
        recall=_ratio(is_dsat & called, is_dsat, groups),
        auroc=_auroc(p, y) if both else None,
        calibration=calibrate(p, y) if both else None,
        curve=precision_coverage(p, y) if both else (),
    )


def diagnosis(rows: Sequence[Compared]) -> Diagnosis:
    """Of turns on which the labeller did not abstain."""
    told = [row for row in rows if row.label.label != "ABSTAIN"]
    positives = [row for row in told if row.truth == "DSAT"]
    negatives = [row for row in told if row.truth != "DSAT"]
    hits = sum(row.label.label == "DSAT" for row in positives)
    return Diagnosis(len(positives), hits, len(negatives), sum(row.label.label != "DSAT" for row in negatives))


def _kappa(first: Sequence[str | bool], second: Sequence[str | bool]) -> float | None:
    kappa = cohens_kappa(first, second)
    return None if kappa is None else round(kappa, 4)


def calibrate(p: np.ndarray, y: np.ndarray) -> Calibration:
    """`p` float [n], `y` bool [n]: predicted probabilities and what was the case."""
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
    """From the surest turns on: at most POINTS thresholds, none within a group of equal probabilities."""
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
