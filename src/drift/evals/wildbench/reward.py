"""WB-Reward: how much better than a reference model, from pairwise judgements or from counts of them."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from drift.errors import DataError, first_problem
from drift.evals.files import PublicRow, read_json, read_rows, read_text
from drift.evals.wildbench.tasks import WEIGHTS, weighted_mean

PairOutcome = Literal["win_much", "win", "tie", "lose", "lose_much"]
MARGIN = 500
"""K: a slight win of a reply that is longer by more than this many characters is a tie; -1: off."""


class OutcomeCounts(PublicRow):
    win_much: int = Field(default=0, ge=0)
    win: int = Field(default=0, ge=0)
    tie: int = Field(default=0, ge=0)
    lose: int = Field(default=0, ge=0)
    lose_much: int = Field(default=0, ge=0)

    @property
    def balance(self) -> float:
        return self.win_much + 0.5 * self.win - 0.5 * self.lose - self.lose_much

    @property
    def judged(self) -> int:
        return self.win_much + self.win + self.tie + self.lose + self.lose_much


class ModelCounts(OutcomeCounts):
    """`total`: all comparisons, including unreadable judgements, which count as 0."""

    total: int | None = Field(default=None, ge=1)
    task_categorized_results: dict[str, OutcomeCounts] = Field(default_factory=dict)


class JudgedPair(PublicRow):
    """A public judgement. `winner`: a model's name, or "tie"; `extent` 2: much better, 1: slightly better."""

    winner: str | None = None
    extent: int | None = None
    model_outputs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reward:
    """In -100..100. `by_reference`: by the stem of the file; `task_macro_reward`: None without counts by task."""

    reward: float
    by_reference: dict[str, float]
    task_macro_reward: float | None


def read_rewards(paths: Sequence[Path], reference_model: str | None, margin: int = MARGIN) -> dict[str, Reward]:
    """WB-Reward of every model in the files, one file per reference model; the mean over them.

    A model that is not in a file gets 0 there, as on the leaderboard: it is that file's reference. Raises DataError for
    two files of one name, which stands for the reference model.
    """
    for place, path in enumerate(paths):
        if same := next((other for other in paths[:place] if other.stem == path.stem), None):
            raise DataError(f"{path}: {same} has the name {path.stem} too. Rename one of the two.")
    files = {path.stem: _read_counts(path, reference_model, margin) for path in paths}
    names = dict.fromkeys(name for counts in files.values() for name in counts)
    return {name: reward({stem: counts.get(name) for stem, counts in files.items()}) for name in names}


def count(rows: Sequence[JudgedPair], model: str, margin: int = MARGIN) -> ModelCounts:
    """The judgements of one model against one reference."""
    return _counts(outcome(row, model, margin) for row in rows)


def _counts(outcomes: Iterable[PairOutcome | None]) -> ModelCounts:
    tally = Tally(outcomes)
    readable = {str(outcome): n for outcome, n in tally.items() if outcome}
    return ModelCounts.model_validate({"total": tally.total(), **readable})


def outcome(row: JudgedPair, model: str, margin: int) -> PairOutcome | None:
    """What the judgement means for `model`; None if it cannot be read."""
    if row.winner == "tie":
        return "tie"
    if row.winner not in row.model_outputs or row.extent not in (1, 2):
        return None
    won = row.winner == model
    if row.extent == 2:
        return "win_much" if won else "lose_much"
    longer_by = {name: len(text) for name, text in row.model_outputs.items()}
    other = next(length for name, length in longer_by.items() if name != row.winner)
    if margin >= 0 and longer_by[row.winner] > other + margin:
        return "tie"
    return "win" if won else "lose"


def reward(by_file: Mapping[str, ModelCounts | None]) -> Reward:
    """The mean over the files, one for each reference model."""
    rewards = {stem: 100 * _relative(counts, counts.total) if counts else 0.0 for stem, counts in by_file.items()}
    present = [counts for counts in by_file.values() if counts]
    by_task = [_by_task(counts) for counts in present] if all(c.task_categorized_results for c in present) else []
    return Reward(
        reward=sum(rewards.values()) / len(rewards),
        by_reference=rewards,
        task_macro_reward=100 * sum(map(weighted_mean, by_task)) / len(by_file) if by_task else None,
    )


def _by_task(counts: ModelCounts) -> dict[str, float]:
    return {group: _relative(counts.task_categorized_results[group], None) for group in counts.task_categorized_results}


def _relative(counts: OutcomeCounts, total: int | None) -> float:
    comparisons = total or counts.judged
    return counts.balance / comparisons if comparisons else 0.0


def _read_counts(path: Path, reference_model: str | None, margin: int) -> dict[str, ModelCounts]:
    if path.suffix == ".parquet" or not _is_one_object(path):
        return _count(path, read_rows(path, JudgedPair), reference_model, margin)
    value = read_json(path)
    named = {str(value.get("model", path.stem)): value} if "win" in value else value
    return {name.split("/")[-1]: _checked(path, name, counts) for name, counts in named.items()}


def _is_one_object(path: Path) -> bool:
    text = read_text(path).lstrip()
    return text.startswith("{") and "\n{" not in text


def _checked(path: Path, name: str, value: Any) -> ModelCounts:
    try:
        counts = ModelCounts.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{path}: {name}: {first_problem(error, 'counts')}.") from None
    unknown = set(counts.task_categorized_results) - set(WEIGHTS)
    if unknown or not (counts.total or counts.judged):
        problem = f"unknown group of tasks {min(unknown)!r}" if unknown else "all counts are 0"
        raise DataError(f"{path}: {name}: {problem}. Needs win_much, win, tie, lose, lose_much.")
    return counts


def _count(path: Path, rows: Sequence[JudgedPair], reference: str | None, margin: int) -> dict[str, ModelCounts]:
    if reference is None:
        raise DataError(f"{path}: holds single judgements. Name the reference model: --reference-model NAME.")
    by_model: dict[str, list[PairOutcome | None]] = {}
    for number, row in enumerate(rows, 1):
        others = [name for name in row.model_outputs if reference not in (name, name.split("/")[-1])]
        if len(row.model_outputs) != 2 or len(others) != 1:
            raise DataError(f"{path}: row {number}: compares {', '.join(row.model_outputs)}, not one with {reference}.")
        by_model.setdefault(others[0].split("/")[-1], []).append(outcome(row, others[0], margin))
    return {name: _counts(outcomes) for name, outcomes in by_model.items()}
