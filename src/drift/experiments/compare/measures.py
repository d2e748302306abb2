"""What a comparison tells of an arm beside its utility: against the base, by part of the truth, coverage, and cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drift.evaluation.results import Distance, Evaluation, ReplyStatistics, UtilityResult, read_evaluation
from drift.experiments.compare.settings import Cell
from drift.experiments.simulation import sandbox_truth
from drift.records import Completion, PromptItem, read_jsonl
from drift.report.comparison.results import Three
from drift.rundir import layout
from drift.rundir.manifest import read_manifest
from drift.scoring.scorers import SCORERS
from drift.statistics import bootstrap_mean, bootstrap_runs


def against_base(cells: Sequence[Cell], folder: Path) -> dict[str, Any]:
    """The fields of ArmResult that set the policy after the last iteration beside the base, means over runs."""
    runs = [(_evaluation(cell, folder, layout.BASE), _evaluation(cell, folder, _last(cell))) for cell in cells]
    return {
        "over_base": _over_base(runs),
        "warm_start_over_base": _over_base(
            [(base, _evaluation(cell, folder, layout.WARM_START)) for cell, (base, _) in zip(cells, runs, strict=True)]
        ),
        "parts": _parts([(_coolest(base), _coolest(last)) for base, last in runs]),
        **_of_replies([(base.replies, last.replies) for base, last in runs]),
        "distance": _distance(cells, folder),
        **_other_kinds(cells, folder),
    }


def coverage(cells: Sequence[Cell], folder: Path) -> tuple[float, ...]:
    """By iteration: the share of prompts with a fresh reply that is truly better than the disliked one, mean over runs.

    Empty for a recipe without fresh replies.
    """
    by_run = [[_covered(cell, folder, k) for k in range(1, cell.cfg.iterations + 1)] for cell in cells]
    if any(share is None for run in by_run for share in run):
        return ()
    return tuple(round(float(share), 4) for share in np.mean(np.asarray(by_run, dtype=float), axis=0))


def sampled_tokens(cells: Sequence[Cell], folder: Path) -> float:
    """Tokens of all fresh replies of a run, mean over runs."""
    totals = [
        sum(len(completion.token_ids or ()) for completion in _completions(cell, folder, k))
        for cell in cells
        for k in range(1, cell.cfg.iterations + 1)
    ]
    return round(sum(totals) / len(cells), 1)


def forwards(cells: Sequence[Cell], folder: Path) -> tuple[float, float]:
    """Replies read by the policy, or by a model that scores, without and with a gradient: sums over the iterations of a
    run, mean over runs. A pair is two replies."""
    runs = [[_forwards(cell, folder, k) for k in range(1, cell.cfg.iterations + 1)] for cell in cells]
    without, learned = np.asarray(runs, dtype=float).sum(axis=1).mean(axis=0)
    return round(float(without), 1), round(float(learned), 1)


def _forwards(cell: Cell, folder: Path, k: int) -> tuple[int, int]:
    step, training = cell.folder(folder) / layout.iteration(k), cell.cfg.training
    counts = {name: stage.counts for name, stage in read_manifest(step).stages.items()}
    rows = int(counts[layout.REFERENCE]["pairs"] or 0)
    sides = rows * (2 if cell.cfg.recipe.rules.makes_pairs else 1)
    measured = int(counts[layout.REFERENCE]["policies"] or 0)
    without, learned = sides * measured, sides * training.epochs
    if training.loss == "kto":  # the replies of other rows, for z0
        without += rows * (measured + training.epochs)
    if training.loss == "self_distillation":  # the same replies after the message of the user
        without += rows * training.epochs
    if scores := counts.get(layout.SCORES):
        asked = {completion.prompt_id for completion in _completions(cell, folder, k)}
        scorer = cell.cfg.recipe.scorer
        reads = scorer is not None and SCORERS[scorer.name].reads
        without += (int(scores["scored"] or 0) + len(asked)) * reads
    if (reward := counts.get(layout.FEEDBACK_REWARD)) and cell.cfg.recipe.scorer:
        learned += int(reward["learned"] or 0) * cell.cfg.recipe.scorer.feedback.epochs
    return without, learned


def _over_base(runs: Sequence[tuple[Evaluation, Evaluation]]) -> dict[str, Three]:
    differences = {}
    for i, utility in enumerate(runs[0][0].utility):
        gained = np.asarray([last.utility[i].scores for _, last in runs])
        gained -= np.asarray([base.utility[i].scores for base, _ in runs])
        share = bootstrap_runs(gained)
        differences[f"{utility.temperature:g}"] = (round(share.value, 4), round(share.low, 4), round(share.high, 4))
    return differences


def _distance(cells: Sequence[Cell], folder: Path) -> Three | None:
    """Over the replies of all runs."""
    each = [
        nats
        for cell in cells
        for nats in Distance.model_validate_json(
            (cell.folder(folder) / layout.COMPARED / layout.DISTANCE).read_bytes()
        ).each
    ]
    share = bootstrap_mean(each) if each else None
    return (round(share.value, 4), round(share.low, 4), round(share.high, 4)) if share else None


def _other_kinds(cells: Sequence[Cell], folder: Path) -> dict[str, Any]:
    if not cells[0].other_kinds:
        return {}
    runs = [
        (
            _read(cell, folder, layout.BASE, layout.OTHER_KINDS),
            _read(cell, folder, layout.COMPARED, layout.OTHER_KINDS),
        )
        for cell in cells
    ]
    return {
        "other_kinds_over_base": _over_base(runs),
        "other_kinds": _parts([(_coolest(base), _coolest(last)) for base, last in runs]),
    }


def _parts(runs: Sequence[tuple[UtilityResult, UtilityResult]]) -> dict[str, tuple[float, float]]:
    names = [name for name in runs[0][0].parts if all(name in last.parts for _, last in runs)]
    return {
        name: (
            round(float(np.mean([base.parts[name][0] for base, _ in runs])), 4),
            round(float(np.mean([last.parts[name][0] for _, last in runs])), 4),
        )
        for name in names
    }


def _of_replies(
    runs: Sequence[tuple[ReplyStatistics | None, ReplyStatistics | None]],
) -> dict[str, tuple[float, float]]:
    measured = [(base, last) for base, last in runs if base and last]
    if not measured:
        return {}

    def means(name: str) -> tuple[float, float]:
        values = np.asarray([[getattr(base, name), getattr(last, name)] for base, last in measured]).mean(axis=0)
        return round(float(values[0]), 4), round(float(values[1]), 4)

    return {name: means(name) for name in ("finished", "median_tokens", "repetition")}


def _covered(cell: Cell, folder: Path, k: int) -> float | None:
    """None if nothing was sampled, or if the prompts have no disliked reply."""
    run = cell.folder(folder)
    items = {item.prompt_id: item for item in read_jsonl(run / layout.PROMPTS, PromptItem)}
    fresh: dict[str, list[Completion]] = {}
    for completion in _completions(cell, folder, k):
        fresh.setdefault(completion.prompt_id, []).append(completion)
    deployment = cell.deployment
    scorer = sandbox_truth(cell.part, 1, deployment.world, deployment.users).scorer
    better = []
    for prompt_id, completions in fresh.items():
        item = items.get(prompt_id)
        if item is None or item.rejected is None:
            return None
        disliked = scorer.score(item.prompt, item.rejected.content, item.rejected_finish)
        better.append(any(scorer.score(item.prompt, c.text, c.finish) > disliked for c in completions))
    return sum(better) / len(better) if better else None


def _completions(cell: Cell, folder: Path, k: int) -> list[Completion]:
    path = cell.folder(folder) / layout.iteration(k) / layout.COMPLETIONS
    return list(read_jsonl(path, Completion)) if path.exists() else []


def _evaluation(cell: Cell, folder: Path, step: str) -> Evaluation:
    return _read(cell, folder, step, layout.EVALUATION)


def _read(cell: Cell, folder: Path, step: str, name: str) -> Evaluation:
    return read_evaluation(cell.folder(folder) / step / name)


def _last(cell: Cell) -> str:
    return layout.iteration(cell.cfg.iterations)


def _coolest(evaluation: Evaluation) -> UtilityResult:
    return min(evaluation.utility, key=lambda utility: utility.temperature)
