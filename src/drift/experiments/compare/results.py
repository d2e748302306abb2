"""What a comparison found: utilities with intervals over prompts and runs, paired differences, p_imp and the stop rule.

The held-out prompts are the same in every cell, so an arm is a matrix [runs, prompts]; the bootstrap draws both anew,
and a difference is taken prompt by prompt and run by run before anything is averaged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drift.evaluation.results import PairImprovement, read_evaluation
from drift.evaluation.stopping import best_step, stops_at, watch
from drift.experiments.compare.settings import Cell
from drift.experiments.compare.table import draw_curves, markdown
from drift.experiments.simulation import hash_of
from drift.records import PreferencePair, read_jsonl
from drift.report.comparison.page import write_comparison_report
from drift.report.comparison.results import RESULTS, ArmResult, ComparisonResults, Difference, Three
from drift.rundir import layout
from drift.statistics import Share, bootstrap_runs


def summarise(
    name: str, cells: Sequence[Cell], folder: Path, differences: Sequence[tuple[str, str]], seconds: float
) -> ComparisonResults:
    """Read the finished cells in `folder`."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.arm, []).append(cell)
    scores = {arm: _scores(group, folder) for arm, group in groups.items()}
    first = next(iter(scores.values()))
    start = first[max(first, key=float)][0]
    return ComparisonResults(
        name=name,
        world=tuple(sorted({hash_of(cell.deployment.world) for cell in cells})),
        runs=tuple(cell.name for cell in next(iter(groups.values()))),
        prompts=start.shape[1],
        noise=float((start.std(axis=1, ddof=1) / np.sqrt(start.shape[1])).mean()),
        arms={arm: _arm(group, scores[arm], folder) for arm, group in groups.items()},
        differences=tuple(
            Difference(
                first=a,
                second=b,
                at={t: three(bootstrap_runs(scores[a][t][-1] - scores[b][t][-1])) for t in scores[a] if t in scores[b]},
            )
            for a, b in differences
        ),
        seconds=round(seconds, 1),
    )


def final_scores(cell: Cell, folder: Path) -> NDArray[np.float64]:
    """Utility at the first temperature of every held-out prompt after the last iteration: float64 [prompts]."""
    last = _folder(cell, folder) / layout.iteration(cell.cfg.iterations) / layout.EVALUATION
    return np.asarray(read_evaluation(last).utility[0].scores)


def write_comparison(folder: Path, comparison: ComparisonResults) -> None:
    """results.json, results.md, one figure and report.html beside the cells."""
    (folder / RESULTS).write_text(comparison.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(comparison), encoding="utf-8")
    curves = {arm: (result.warm_start, *result.utility) for arm, result in comparison.arms.items()}
    draw_curves(folder / "utility.svg", curves, comparison.prompts, len(comparison.runs))
    write_comparison_report(folder)


def three(share: Share) -> Three:
    return round(share.value, 4), round(share.low, 4), round(share.high, 4)


def _arm(cells: Sequence[Cell], scores: Mapping[str, list[NDArray[np.float64]]], folder: Path) -> ArmResult:
    at = {t: tuple(three(bootstrap_runs(step)) for step in steps) for t, steps in scores.items()}
    gains = {t: three(bootstrap_runs(steps[-1] - steps[0])) for t, steps in scores.items()}
    hottest = max(scores, key=float)
    improvements = [[_improvement(step) for step in _steps(cell, folder)[1:]] for cell in cells]
    kept = [_kept(cell, folder) for cell in cells]
    regrets = [
        float(max(step[run].mean() for step in scores[hottest]) - scores[hottest][place][run].mean())
        for run, place in enumerate(kept)
        if place is not None
    ]
    counts = [sum(1 for _ in read_jsonl(step / layout.PAIRS, PreferencePair)) for step in _steps(cells[0], folder)[1:]]
    return ArmResult(
        learning_rate=cells[0].cfg.training.learning_rate,
        utility=at[hottest][1:],
        warm_start=at[hottest][0],
        gain=gains[hottest],
        at=at,
        gains=gains,
        final_by_run=tuple(round(float(row.mean()), 4) for row in scores[hottest][-1]),
        p_imp=_mean_steps([[found.better for found in run] for run in improvements]),
        worse=_mean_steps([[found.worse for found in run] for run in improvements]),
        pairs=tuple(counts),
        updates=tuple(_updates(step) for step in _steps(cells[0], folder)[1:]),
        regret=(round(float(np.mean(regrets)), 4), round(max(regrets), 4)) if regrets else None,
        stops_at=tuple(place for place in kept if place is not None),
    )


def _scores(cells: Sequence[Cell], folder: Path) -> dict[str, list[NDArray[np.float64]]]:
    """By temperature: one matrix [runs, prompts] for the warm start and for every iteration."""
    found = [[read_evaluation(step / layout.EVALUATION) for step in _steps(cell, folder)] for cell in cells]
    temperatures = [f"{u.temperature:g}" for u in found[0][0].utility]
    return {
        t: [np.asarray([run[step].utility[i].scores for run in found]) for step in range(len(found[0]))]
        for i, t in enumerate(temperatures)
    }


def _mean_steps(by_run: list[list[float]]) -> tuple[float, ...]:
    """Over the runs, for each iteration."""
    return tuple(round(float(mean), 4) for mean in np.mean(by_run, axis=0))


def _kept(cell: Cell, folder: Path) -> int | None:
    """What the stop rule with patience 1 would have kept."""
    watched = watch([step / layout.EVALUATION for step in _steps(cell, folder)])
    if watched is None:
        return None
    stop = stops_at(watched, patience=1)
    return best_step(watched if stop is None else watched[: stop + 1])


def _steps(cell: Cell, folder: Path) -> list[Path]:
    run = _folder(cell, folder)
    return [run / layout.WARM_START, *(run / layout.iteration(k) for k in range(1, cell.cfg.iterations + 1))]


def _folder(cell: Cell, folder: Path) -> Path:
    return folder / "cells" / cell.arm / cell.name


def _improvement(step: Path) -> PairImprovement:
    return PairImprovement.model_validate_json((step / layout.IMPROVEMENT).read_bytes())


def _updates(step: Path) -> int:
    """Optimizer steps; the diagnostics at the start and the end of an iteration have rows of their own."""
    return sum(b'"lemma_1/bound"' not in row for row in (step / layout.METRICS).read_bytes().splitlines())
