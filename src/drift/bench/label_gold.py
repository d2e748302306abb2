"""The embedded labeller on gold labels of real chats: each turn is scored by a model that saw nothing of its fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from drift.feedback.embedded.fit.gold import FOLDS, GoldTurn, gold_turns
from drift.feedback.embedded.fit.iard import read_iard
from drift.feedback.embedded.fit.learn import Linears, held_out
from drift.feedback.embedded.fit.pool import project_pool
from drift.feedback.embedded.labeller import DECISION
from drift.records import Conversation
from drift.statistics import Share, bootstrap_figures

RESAMPLES = 1000
RECALL = 0.35  # at which the precision is reported
BINS = 8  # of the reliability table

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class GoldBench:
    """`protocol`: how the figures were measured. `brier_skill`: 1 - Brier score / Brier score of the base rate.

    `precision`, `recall`: of the turns with p_dsat >= 0.5. `reliability`: turns in equally filled bins by p_dsat:
    mean p_dsat, share that is DSAT, turns. Intervals: 95 %, bootstrap over conversations, without refitting.
    """

    protocol: str
    auroc: float
    auroc_interval: Interval
    average_precision: float
    average_precision_interval: Interval
    precision_at_recall_35: float
    precision_at_recall_35_interval: Interval
    brier_skill: float
    brier_skill_interval: Interval
    precision: float
    precision_interval: Interval
    recall: float
    recall_interval: Interval
    reliability: list[tuple[float, float, int]]
    turns: int
    dissatisfied: int


def measure_gold(gold: Path, iard: Path, conversations: Sequence[Conversation], seed: int = 0) -> GoldBench:
    """Refit the labeller once per fold (about a minute) and score each fold's turns."""
    turns = gold_turns(gold, conversations)
    p_dsat = held_out(Linears(project_pool(read_iard(iard), turns, conversations)))
    return gold_figures(turns, p_dsat, seed)


def gold_figures(turns: Sequence[GoldTurn], p_dsat: np.ndarray, seed: int = 0) -> GoldBench:
    truth = np.asarray([turn.truth == "DSAT" for turn in turns])

    def figures(rows: np.ndarray) -> tuple[float, ...]:
        return _figures(truth[rows], p_dsat[rows])

    shares = bootstrap_figures(figures, [turn.conversation for turn in turns], seed, RESAMPLES)
    auroc, average_precision, at_recall, brier_skill, precision, recall = (round(share.value, 4) for share in shares)
    spans = [interval(share) for share in shares]
    return GoldBench(
        protocol=f"out of fold: {FOLDS} folds by sha256 of the conversation id; each model, its settings and its "
        "calibration saw nothing of the fold that it is scored on",
        auroc=auroc,
        auroc_interval=spans[0],
        average_precision=average_precision,
        average_precision_interval=spans[1],
        precision_at_recall_35=at_recall,
        precision_at_recall_35_interval=spans[2],
        brier_skill=brier_skill,
        brier_skill_interval=spans[3],
        precision=precision,
        precision_interval=spans[4],
        recall=recall,
        recall_interval=spans[5],
        reliability=reliability(truth, p_dsat),
        turns=len(truth),
        dissatisfied=int(truth.sum()),
    )


def _figures(truth: np.ndarray, p_dsat: np.ndarray) -> tuple[float, ...]:
    """AUROC, average precision, precision at the recall, Brier skill, and precision and recall of the decision."""
    called, base = p_dsat >= DECISION, truth.mean()
    hits = (truth & called).sum()
    return (
        float(roc_auc_score(truth, p_dsat)),
        float(average_precision_score(truth, p_dsat)),
        precision_at_recall(truth, p_dsat, RECALL),
        float(1 - ((p_dsat - truth) ** 2).mean() / (base * (1 - base))),
        float(hits / max(called.sum(), 1)),
        float(hits / truth.sum()),
    )


def interval(share: Share) -> Interval:
    """For JSON: four digits, rounded by numpy, as published figures are."""
    low, high = np.round((share.low, share.high), 4).tolist()
    return low, high


def precision_at_recall(truth: np.ndarray, p_dsat: np.ndarray, recall: float) -> float:
    """Precision at the highest threshold that reaches the recall; turns with equal p_dsat are not split."""
    hits = np.cumsum(truth[np.argsort(-p_dsat, kind="stable")])
    threshold = np.sort(p_dsat)[::-1][np.searchsorted(hits, np.ceil(recall * truth.sum() - 1e-9))]
    return float(truth[p_dsat >= threshold].mean())


def reliability(truth: np.ndarray, p_dsat: np.ndarray, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Mean p_dsat, share of dissatisfied turns and number of turns, in equally filled bins from low to high."""
    parts = np.array_split(np.argsort(p_dsat, kind="stable"), bins)
    return [(round(float(p_dsat[p].mean()), 4), round(float(truth[p].mean()), 4), len(p)) for p in parts if len(p)]
