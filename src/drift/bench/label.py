"""How fast the embedded labeller reads real chats, and how well it finds dissatisfaction in IARD's test dialogues."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sklearn.metrics import f1_score, roc_auc_score
from threadpoolctl import threadpool_limits

from drift.errors import DataError
from drift.feedback.embedded.iard import read_iard
from drift.feedback.embedded.labeller import DECISION, EmbeddedLabeller
from drift.records import Conversation, Message, Role

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
REPEATS = 7
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class IardBench:
    """Turns of the test dialogues; dissatisfied is whoever rejects, criticises or reformulates.

    `f1`: of the turns that the labeller would call DSAT (p_dsat >= 0.5). Intervals: 95 %, bootstrap over dialogues.
    """

    auroc: float
    auroc_interval: tuple[float, float]
    f1: float
    f1_interval: tuple[float, float]
    turns: int
    dialogues: int


@dataclass(frozen=True, slots=True)
class LabelBench:
    """`turns_per_second`: labels per second of process CPU time on one thread; median over the whole logs."""

    turns_per_second: float | None = None
    judged_turns: int = 0
    iard: IardBench | None = None


def bench_label(iard: Path | None, logs: Path | None, seed: int = 0) -> LabelBench:
    """`logs`: chats in the ShareGPT shape. What is not given is not measured. Raises DataError on another shape."""
    labeller = EmbeddedLabeller()
    quality = measure_iard(labeller, iard, seed) if iard else None
    if logs is None:
        return LabelBench(iard=quality)
    speed, turns = measure_speed(labeller, list(read_sharegpt(logs)))
    return LabelBench(speed, turns, quality)


def measure_speed(labeller: EmbeddedLabeller, conversations: Sequence[Conversation]) -> tuple[float, int]:
    """Labels per CPU second and how many labels; the first pass, which loads the language model, is not timed."""
    with threadpool_limits(1):
        turns = sum(1 for _ in labeller.label(conversations))
        seconds = []
        for _ in range(REPEATS):
            begun = time.process_time()
            for _ in labeller.label(conversations):
                pass
            seconds.append(time.process_time() - begun)
    return round(turns / statistics.median(seconds), 1), turns


def measure_iard(labeller: EmbeddedLabeller, path: Path, seed: int) -> IardBench:
    told = [turn for turn in read_iard(path) if turn.is_test]
    if not told:
        raise DataError(f"{path}: holds no test dialogue. Give --iard the whole iard.jsonl.")
    truth = np.asarray([turn.dissatisfied for turn in told])
    p_dsat = labeller.probabilities([turn.turn for turn in told])[:, 0]
    names, dialogue = np.unique([turn.dialogue for turn in told], return_inverse=True)
    rows = [np.flatnonzero(dialogue == number) for number in range(len(names))]
    draws = _resample(truth, p_dsat, rows, np.random.default_rng(seed))
    low, high = np.percentile(draws, (2.5, 97.5), axis=0).round(4).tolist()
    return IardBench(
        auroc=round(float(roc_auc_score(truth, p_dsat)), 4),
        auroc_interval=(low[0], high[0]),
        f1=round(float(f1_score(truth, p_dsat >= DECISION)), 4),
        f1_interval=(low[1], high[1]),
        turns=len(told),
        dialogues=len(names),
    )


def _resample(truth: np.ndarray, p_dsat: np.ndarray, rows: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """[resamples, 2]: AUROC and F1 of dialogues drawn with replacement."""
    draws = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        draws.append((roc_auc_score(truth[drawn], p_dsat[drawn]), f1_score(truth[drawn], p_dsat[drawn] >= DECISION)))
    return np.asarray(draws)


def read_sharegpt(path: Path) -> Iterator[Conversation]:
    """Conversations held in memory: reading is not what is measured. Unknown speakers are left out."""
    try:
        chats = orjson.loads(path.read_bytes())
        for number, chat in enumerate(chats):
            yield Conversation(str(number), "sharegpt", None, tuple(_messages(chat)), "train")
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no ShareGPT file ({type(error).__name__}: {error}). Give --logs a JSON list of chats."
        ) from None


def _messages(chat: dict[str, Any]) -> Iterator[Message]:
    for entry in chat["conversations"]:
        if entry["from"] in ROLES:
            yield Message(ROLES[entry["from"]], str(entry["value"]))
