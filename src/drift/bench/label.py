"""`drift bench label`: speed of the embedded labeller on real chats, and its quality on held-out data."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score
from threadpoolctl import threadpool_limits

from drift.bench.label_gold import RESAMPLES, GoldBench, Interval, interval, measure_gold
from drift.errors import DataError
from drift.feedback.embedded.fit.iard import read_iard
from drift.feedback.embedded.labeller import DECISION, EmbeddedLabeller
from drift.logs.ingest import ingest
from drift.records import Conversation
from drift.statistics import bootstrap_figures
from drift.store import Store

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
