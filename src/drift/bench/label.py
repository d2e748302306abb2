"""`drift bench label`: speed of the embedded labeller on real chats, and its quality on held-out data.

On gold labels of real chats each turn is scored by a model that saw nothing of its fold.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from threadpoolctl import threadpool_limits

from drift.errors import DataError
from drift.feedback.embedded.fit.learn import Linears, held_out
from drift.feedback.embedded.fit.pool import project_pool
from drift.feedback.embedded.fit.sources import FOLDS, GoldTurn, gold_turns, read_iard
from drift.feedback.embedded.labeller import DECISION, EmbeddedLabeller
from drift.logs.ingest import ingest
from drift.records import Conversation
from drift.statistics import Share, bootstrap_figures
from drift.store import Store

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


REPEATS = 7


@dataclass(frozen=True, slots=True)
class IardBench:
    """Turns of the test dialogues. Dissatisfied: the user rejects, criticises or reformulates.

    `f1`: of the turns that the labeller would call DSAT (p_dsat >= 0.5). Intervals: 95 %, bootstrap over dialogues.
    """

    auroc: float
    auroc_interval: Interval
    f1: float
    f1_interval: Interval
    turns: int
    dialogues: int


@dataclass(frozen=True, slots=True)
class LabelBench:
    """`turns_per_second`: labels per second of process CPU time on one thread, including the language check and finding
    the turns; the median of `repeats` passes over all logs, `slowest` to `fastest`. `gold`: out of fold."""

    turns_per_second: float | None = None
    slowest: float | None = None
    fastest: float | None = None
    repeats: int = 0
    judged_turns: int = 0
    iard: IardBench | None = None
    gold: GoldBench | None = None


def bench_label(iard: Path | None, logs: Path | None, gold: Path | None = None, seed: int = 0) -> LabelBench:
    """Measure on each file that is not None. `gold` holds labels for turns of `logs`: each turn is scored by a model
    refitted without the turn's fold, on the other folds and IARD's training dialogues.

    Raises DataError for a file of another format, and for `gold` without the other two.
    """
    if gold and not (iard and logs):
        raise DataError("--gold needs --iard and --logs too: it refits the labeller out of fold.")
    conversations = read_logs(logs) if logs else []
    labeller = EmbeddedLabeller()
    speeds, turns = measure_speed(labeller, conversations) if logs else ([], 0)
    return LabelBench(
        turns_per_second=statistics.median(speeds) if speeds else None,
        slowest=min(speeds, default=None),
        fastest=max(speeds, default=None),
        repeats=len(speeds),
        judged_turns=turns,
        iard=measure_iard(labeller, iard, seed) if iard else None,
        gold=measure_gold(gold, iard, conversations, seed) if gold and iard else None,
    )


def read_logs(path: Path) -> list[Conversation]:
    """The conversations of a chat log in any supported format, in memory: reading is not measured."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        ingest([path], store)
        return list(store.conversations())


def measure_speed(labeller: EmbeddedLabeller, conversations: Sequence[Conversation]) -> tuple[list[float], int]:
    """Labels per CPU second of each pass, and number of labels. The first pass, which loads the model, is not timed."""
    with threadpool_limits(1):
        turns = sum(1 for _ in labeller.label(conversations))
        seconds = [_seconds(lambda: sum(1 for _ in labeller.label(conversations))) for _ in range(REPEATS)]
    return [round(turns / each, 1) for each in seconds], turns


def _seconds(work: Callable[[], int]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def measure_iard(labeller: EmbeddedLabeller, path: Path, seed: int) -> IardBench:
    turns = [turn for turn in read_iard(path) if turn.is_test]
    if not turns:
        raise DataError(f"{path}: holds no test dialogue. Give the complete iard.jsonl to --iard.")
    truth = np.asarray([turn.dissatisfied for turn in turns])
    p_dsat = labeller.probabilities([turn.turn for turn in turns])[:, 0]
    dialogues = [turn.dialogue for turn in turns]

    def figures(rows: np.ndarray) -> tuple[float, float]:
        auroc = roc_auc_score(truth[rows], p_dsat[rows])
        return float(auroc), float(f1_score(truth[rows], p_dsat[rows] >= DECISION))

    auroc, f1 = bootstrap_figures(figures, dialogues, seed, RESAMPLES)
    return IardBench(
        auroc=round(auroc.value, 4),
        auroc_interval=interval(auroc),
        f1=round(f1.value, 4),
        f1_interval=interval(f1),
        turns=len(turns),
        dialogues=len(set(dialogues)),
    )
