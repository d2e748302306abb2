"""The results of a comparison: utilities with intervals, paired differences, p_imp, and what the stop rule would keep.

All cells answer the same held-out prompts, so the scores of an arm are a matrix [runs, prompts]. The bootstrap
resamples both runs and prompts. A difference is taken per run and prompt before it is averaged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drift.config import StopSettings
from drift.evaluation.results import PairImprovement, read_evaluation
from drift.evaluation.stopping import first_problem_of_replies, step_kept, watch
from drift.experiments.compare.measures import against_base, coverage, forwards, sampled_tokens
from drift.experiments.compare.settings import Cell
from drift.experiments.compare.table import draw_curves, markdown
from drift.experiments.simulation import world_hash_of
from drift.records import PreferencePair, read_jsonl
from drift.report.comparison.page import write_comparison_report
from drift.report.comparison.results import RESULTS, ArmResult, ComparisonResults, Difference, Three
from drift.rundir import layout
from drift.statistics import Share, bootstrap_runs


def summarise(
    name: str, cells: Sequence[Cell], folder: Path, differences: Sequence[tuple[str, str]], seconds: float
) -> ComparisonResults:
    """The results of the finished cells in `folder`."""
    by_arm: dict[str, list[Cell]] = {}
    for cell in cells:
        by_arm.setdefault(cell.arm, []).append(cell)
    scores = {arm: _scores(arm_cells, folder) for arm, arm_cells in by_arm.items()}
    first_arm = next(iter(scores.values()))
    warm_start = first_arm[max(first_arm, key=float)][0]  # [runs, prompts]
    return ComparisonResults(
        name=name,
        world=tuple(sorted({world_hash_of(cell.deployment.world) for cell in cells})),
        runs=tuple(cell.name for cell in next(iter(by_arm.values()))),
        prompts=warm_start.shape[1],
        noise=float((warm_start.std(axis=1, ddof=1) / np.sqrt(warm_start.shape[1])).mean()),
        arms={arm: _arm_result(arm_cells, scores[arm], folder) for arm, arm_cells in by_arm.items()},
        differences=tuple(
            Difference(
                first=first,
                second=second,
                at={
                    temperature: _rounded(bootstrap_runs(steps[-1] - scores[second][temperature][-1]))
                    for temperature, steps in scores[first].items()
                    if temperature in scores[second]
                },
            )
            for first, second in differences
        ),
        seconds=round(seconds, 1),
    )


def final_scores(cell: Cell, folder: Path) -> NDArray[np.float64]:
    """Utility of each held-out prompt after the last iteration, at the first temperature: float64 [prompts]."""
    last = cell.folder(folder) / layout.iteration(cell.cfg.iterations) / layout.EVALUATION
    return np.asarray(read_evaluation(last).utility[0].scores)


def write_comparison(folder: Path, comparison: ComparisonResults) -> None:
    """Write results.json, results.md, utility.svg and report.html to the folder of the comparison."""
    (folder / RESULTS).write_text(comparison.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(comparison), encoding="utf-8")
    curves = {arm: (result.warm_start, *result.utility) for arm, result in comparison.arms.items()}
    hottest = max(next(iter(comparison.arms.values())).at, key=float)
    draw_curves(folder / "utility.svg", curves, comparison.prompts, len(comparison.runs), f"temperature {hottest}")
    write_comparison_report(folder)


def _arm_result(cells: Sequence[Cell], scores: Mapping[str, list[NDArray[np.float64]]], folder: Path) -> ArmResult:
    at = {t: tuple(_rounded(bootstrap_runs(step)) for step in steps) for t, steps in scores.items()}
    gains = {t: _rounded(bootstrap_runs(steps[-1] - steps[0])) for t, steps in scores.items()}
    hottest = max(scores, key=float)
    improvements = [
        [
            PairImprovement.model_validate_json((step / layout.IMPROVEMENT).read_bytes())
            for step in _steps(cell, folder)[1:]
        ]
        for cell in cells
        if cell.cfg.recipe.rules.makes_pairs  # replies without a partner beat nobody
    ]
    kept_steps = [step_kept_by_stop_rule(cell, folder) for cell in cells]
    # the stop rule's regret in a run: how much better than the step that it keeps the best step is
    regrets = [
        float(max(step[run].mean() for step in scores[hottest]) - scores[hottest][kept][run].mean())
        for run, kept in enumerate(kept_steps)
        if kept is not None
    ]
    iterations = _steps(cells[0], folder)[1:]
    return ArmResult(
        learning_rate=cells[0].cfg.training.learning_rate,
        utility=at[hottest][1:],
        warm_start=at[hottest][0],
        gain=gains[hottest],
        at=at,
        gains=gains,
        final_by_run=tuple(round(float(row.mean()), 4) for row in scores[hottest][-1]),
        p_imp=_mean_over_runs([[improvement.better for improvement in run] for run in improvements]),
        worse=_mean_over_runs([[improvement.worse for improvement in run] for run in improvements]),
        pairs=tuple(sum(1 for _ in read_jsonl(step / layout.PAIRS, PreferencePair)) for step in iterations),
        updates=tuple(_optimizer_steps(step / layout.METRICS) for step in iterations),
        regret=(round(float(np.mean(regrets)), 4), round(max(regrets), 4)) if regrets else None,
        stops_at=tuple(kept for kept in kept_steps if kept is not None),
        **against_base(cells, folder),
        coverage=coverage(cells, folder),
        sampled_tokens=sampled_tokens(cells, folder),
        forwards=forwards(cells, folder),
    )


def _scores(cells: Sequence[Cell], folder: Path) -> dict[str, list[NDArray[np.float64]]]:
    """By temperature: one matrix [runs, prompts] for the warm start and one for each iteration."""
    runs = [[read_evaluation(step / layout.EVALUATION) for step in _steps(cell, folder)] for cell in cells]
    temperatures = [f"{utility.temperature:g}" for utility in runs[0][0].utility]
    return {
        temperature: [np.asarray([run[step].utility[i].scores for run in runs]) for step in range(len(runs[0]))]
        for i, temperature in enumerate(temperatures)
    }


def _rounded(share: Share) -> Three:
    return round(share.value, 4), round(share.low, 4), round(share.high, 4)


def _mean_over_runs(by_run: list[list[float]]) -> tuple[float, ...]:
    """For each iteration, the mean over the runs; nothing without a run."""
    return tuple(round(float(mean), 4) for mean in np.mean(by_run, axis=0)) if by_run else ()


def step_kept_by_stop_rule(cell: Cell, folder: Path) -> int | None:
    """The step that the stop rule with patience 1 would have kept (0: the warm start), or None without its figures."""
    rule = "heldout_liked" if cell.deployment.world == "instructions" else "heldout_logps"
    evaluations = [step / layout.EVALUATION for step in _steps(cell, folder)]
    problem, _ = first_problem_of_replies(evaluations)
    return step_kept(problem, watch(evaluations, StopSettings(rule=rule)), patience=1)


def _steps(cell: Cell, folder: Path) -> list[Path]:
    """The folders of the warm start and of every iteration."""
    run = cell.folder(folder)
    return [run / layout.WARM_START, *(run / layout.iteration(k) for k in range(1, cell.cfg.iterations + 1))]


def _optimizer_steps(metrics: Path) -> int:
    """Every row is an optimizer step, except those of the diagnostics before and after the training."""
    return sum(b'"lemma_1/bound"' not in row for row in metrics.read_bytes().splitlines())
