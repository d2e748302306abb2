"""`drift eval wildbench --scores`: WB-Score, task score, WB-Reward and WB-Elo from files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drift.evals.wildbench.elo import SHUFFLES, rate
from drift.evals.wildbench.reward import MARGIN, Reward, read_rewards
from drift.evals.wildbench.scores import TASKS, ModelScores, read_scores
from drift.evals.wildbench.tasks import Tags, TaskScores, read_tags, score_tasks

UNKNOWN_JUDGE = "the file does not say which judge and prompt made the scores"


@dataclass(frozen=True, slots=True)
class WildBenchResult:
    """Figures of one model. `n_total`: rows with a score; `n_unscored`: rows without one."""

    model: str
    file: str
    WB_score: float
    n_total: int
    n_unscored: int
    average_length: float | None
    task_score: float | None = None
    task_scores: dict[str, float] | None = None
    n_untagged: int | None = None
    reward: float | None = None
    task_macro_reward: float | None = None
    elo: float | None = None
    elo_low: float | None = None
    elo_high: float | None = None
    not_comparable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WildBenchSummary:
    """`results`: by short name; `rewards`: of every model in the pairwise files."""

    results: dict[str, WildBenchResult]
    rewards: dict[str, Reward]

    def plain(self) -> dict[str, Any]:
        """For JSON: every model under `models`; a single model's figures also at the top level."""
        models = {name: asdict(result) for name, result in self.results.items()}
        single = next(iter(models.values())) if len(models) == 1 else {}
        rewards = {name: asdict(reward) for name, reward in self.rewards.items()}
        return {**single, "models": models, **({"rewards": rewards} if rewards else {})}


def summarise_scores(
    scores: Sequence[Path],
    tags: Path | None,
    pairwise: Sequence[Path],
    reference_model: str | None = None,
    margin: int = MARGIN,
) -> WildBenchSummary:
    """Raises DataError naming the file and row that is invalid."""
    models = read_scores(scores)
    groups = read_tags(tags) if tags else None
    rewards = read_rewards(pairwise, reference_model, margin) if pairwise else {}
    results = {model.name: _result(model, groups, _reward_of(model, rewards)) for model in models}
    return WildBenchSummary(_with_elo(results, models) if len(models) > 1 else results, rewards)


def _with_elo(results: Mapping[str, WildBenchResult], models: Sequence[ModelScores]) -> dict[str, WildBenchResult]:
    differences = [f"Elo: {SHUFFLES} shuffles among the given models alone, all from the same start"]
    if unknown := {model.name: model.without_length for model in models if model.without_length}:
        replies = ", ".join(f"{count} replies of {name}" for name, count in unknown.items())
        differences.append(f"Elo: no vote on {replies} is a tie by length: the file has no lengths of them")
    return {
        name: replace(
            results[name],
            elo=elo.mean,
            elo_low=elo.low,
            elo_high=elo.high,
            not_comparable=(*results[name].not_comparable, *differences),
        )
        for name, elo in rate(models).items()
    }


def _result(model: ModelScores, tags: Tags | None, reward: Reward | None) -> WildBenchResult:
    tasks = score_tasks(model, tags) if tags is not None else None
    return WildBenchResult(
        model=model.full_name,
        file=model.file,
        WB_score=model.wb_score,
        n_total=len(model.replies),
        n_unscored=model.unscored,
        average_length=model.average_length,
        task_score=tasks.task_score if tasks else None,
        task_scores=tasks.groups if tasks else None,
        n_untagged=tasks.untagged if tasks else None,
        reward=reward.reward if reward else None,
        task_macro_reward=reward.task_macro_reward if reward else None,
        not_comparable=_not_comparable(model, tasks),
    )


def _reward_of(model: ModelScores, rewards: Mapping[str, Reward]) -> Reward | None:
    return rewards.get(model.name) or rewards.get(model.full_name.split("/")[-1])


def _not_comparable(model: ModelScores, tasks: TaskScores | None) -> tuple[str, ...]:
    rows = len(model.replies) + model.unscored
    checks = (
        (True, UNKNOWN_JUDGE),
        (rows != TASKS, f"{rows} tasks, not {TASKS}"),
        (tasks is not None and bool(tasks.missing), f"no task of {', '.join(tasks.missing) if tasks else ''}"),
    )
    return tuple(reason for holds, reason in checks if holds)
