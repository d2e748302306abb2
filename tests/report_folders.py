"""Folders of a small comparison: its results, and the runs of its arms."""

from pathlib import Path

from drift.records import Counts
from drift.report.comparison.results import ArmResult, ComparisonResults, Difference
from drift.rundir import RunDir


def arm(gain: float, wide: float) -> ArmResult:
    utility, found = (0.6 + gain, 0.55 + gain, 0.65 + gain), (gain, gain - wide, gain + wide)
    return ArmResult(
        learning_rate=1e-4,
        utility=(utility, utility),
        warm_start=(0.6, 0.55, 0.65),
        gain=found,
        at={"1": ((0.6, 0.55, 0.65), utility, utility), "0": ((0.7, 0.6, 0.8),) * 3},
        gains={"1": found, "0": (0.0, -0.1, 0.1)},
        final_by_run=(0.61 + gain, 0.59 + gain),
        p_imp=(0.88, 0.87),
        worse=(0.1, 0.11),
        pairs=(16, 16),
        updates=(2, 2),
        regret=(0.01, 0.02),
        stops_at=(1, 2),
    )


def write_folder(folder: Path, name: str = "ours") -> Path:
    comparison = ComparisonResults(
        name="side by side",
        world=("5f6d862c48c56fc2",),
        runs=("embedded-seed-1", "embedded-seed-2"),
        prompts=300,
        noise=0.023,
        arms={name: arm(0.1, 0.05), "theirs": arm(-0.02, 0.05), "worst": arm(-0.2, 0.05)},
        differences=(
            Difference(first=name, second="theirs", at={"1": (0.12, 0.05, 0.2), "0": (0.0, -0.1, 0.1)}),
            Difference(first="worst", second="theirs", at={"1": (-0.18, -0.2, -0.1)}),
            Difference(first="theirs", second=name, at={"1": (-0.01, -0.2, 0.1)}),
        ),
        seconds=1.0,
    )
    folder.mkdir()
    (folder / "results.json").write_text(comparison.model_dump_json())
    return folder


def write_pairs(out: Path) -> Counts:
    out.write_text("")
    return {"rows": 16, "dropped.chosen_is_rejected": 3}


def write_labels(out: Path) -> Counts:
    out.write_text("")
    return {"rows": 9, "dropped.abuse": 2}


def write_trial(out: Path) -> Counts:
    """Replies that are compared with each other and never trained on."""
    out.write_text("")
    return {"prompts": 40, "dropped.prompt_too_long": 5}


def write_cells(folder: Path, **recipes: str) -> None:
    for arm_name, recipe in recipes.items():
        for seed in (1, 2):
            config = f"name: {arm_name}\nseed: {seed}\niterations: 2\nrecipe: {{name: {recipe}, scorer: null}}\n"
            cell = folder / "cells" / arm_name / f"embedded-seed-{seed}"
            cell.parent.mkdir(parents=True, exist_ok=True)
            with RunDir.open(cell, config, seed) as run:
                run.stage("data/labels.jsonl", write_labels)
                for k in (1, 2):
                    run.folder(f"guidance-{k}").stage("completions.jsonl", write_trial)
                    run.iteration(k).stage("pairs.jsonl", write_pairs)
