"""Users who are wrong, in the sandbox: what does a policy learn from them, and does it learn to give in?

    python benchmarks/sycophancy.py --json

A share of the users (`--shares`) also contradicts right replies and insists on wrong answers (sandbox/mistaken.py).
Each arm learns from the same logs: the paper's loss, the anchored loss, SFT on the fresh replies, and the paper's loss
with the defence (`recipe.own_majority: 5`: a complaint about what the policy itself says most often is not believed).
By share and arm, of the base, the warm start and the policy after the last iteration: `utility` (true, temperature 1)
and `given_up`, the share of right answers that the policy gives up when it is contradicted (with a 95 % interval over
the answers of all runs). `gain`: of the last policy
over the base, with a 95 % interval over runs and requests. `complaints`: the prompts of the training split, about wrong
and about right replies; `not_believed`: those of them that the defence leaves out. The same command resumes.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from drift.evaluation.results import Evaluation, read_evaluation
from drift.experiments.compare.cell import logs_run_of
from drift.experiments.compare.run import Restriction, run_comparison
from drift.experiments.compare.settings import Cell, arms_of, cells_of, load_comparison
from drift.experiments.simulation import world_hash_of
from drift.records import PromptItem, read_jsonl
from drift.rundir import layout
from drift.sandbox.deployment import Reaction
from drift.sandbox.oracle import Oracle
from drift.statistics import bootstrap_mean, bootstrap_runs

STEADY = {"optimizer": "adamw_torch", "lr_scheduler": "constant", "warmup_ratio": 0.0, "batch_size": 32}
ARMS: dict[str, dict[str, Any]] = {
    "paper": {"training": {"learning_rate": 1e-4}},
    "anchored": {
        "training": {"loss": "anchored", "reference": "warm_start", "margin": 3.0, "learning_rate": 2e-4},
    },
    "sft": {"training": {"loss": "sft", "learning_rate": 1.4e-4}},
    "defence": {"training": {"learning_rate": 1e-4}, "recipe": {"own_majority": 5}},
}
"""The learning rates are those that configs/compare.yaml was tuned to, without users who are wrong."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sycophancy"))
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.2, 0.4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--bases", nargs="+", default=["embedded", "embedded-2", "embedded-3"])
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--turns", type=int, default=5000)
    parser.add_argument("--pairs", type=int, default=224)
    parser.add_argument("--prompts", type=int, default=300, help="held-out requests to measure on")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    started = time.monotonic()
    arguments.out.mkdir(parents=True, exist_ok=True)
    config = arguments.out / "sycophancy.yaml"
    config.write_text(yaml.safe_dump(comparison(arguments), sort_keys=False))
    folder = arguments.out / "comparison"
    run_comparison(config, folder, Restriction(workers=arguments.workers))
    settings = load_comparison(config)
    cells = cells_of(arms_of(settings), settings.seeds, settings.bases, "test")
    sizes = ("seeds", "bases", "iterations", "turns", "pairs", "prompts")
    result = {
        "world": world_hash_of("first"),
        **{size: getattr(arguments, size) for size in sizes},
        "shares": {f"{share:g}": of_share(share, cells, folder) for share in arguments.shares},
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


def comparison(arguments: argparse.Namespace) -> dict[str, Any]:
    """One comparison of all arms on all shares."""
    return {
        "seeds": arguments.seeds,
        "bases": arguments.bases,
        "shared": {
            "iterations": arguments.iterations,
            "deployment": {"turns": arguments.turns},
            "sampling": {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 48, "max_prompt_length": 1024},
            "warm_start": {"epochs": 1, "learning_rate": 1e-4, **STEADY},
            "training": STEADY,
            "recipe": {"pairs": arguments.pairs},
            "evaluation": {"temperatures": [1.0, 0.0], "samples": 1, "max_prompts": arguments.prompts},
        },
        "arms": {
            _arm(name, share): {**changes, "deployment": {"mistaken": share}}
            for share in arguments.shares
            for name, changes in ARMS.items()
        },
    }


def _arm(name: str, share: float) -> str:
    return f"{name}-{share:g}"


def of_share(share: float, cells: list[Cell], folder: Path) -> dict[str, Any]:
    own = {name: [cell for cell in cells if cell.arm == _arm(name, share)] for name in ARMS}
    truth = [
        row
        for cell in own["paper"]
        for row in read_jsonl(logs_run_of(cell, folder) / layout.DEPLOYMENT_TRUTH, Reaction)
        if row.label == "DSAT"
    ]
    return {
        "complaints": len(truth),
        "complaints_about_right_replies": sum(row.utility == 1.0 for row in truth),
        "arms": {name: of_arm(arm_cells, folder) for name, arm_cells in own.items()},
    }


def of_arm(cells: list[Cell], folder: Path) -> dict[str, Any]:
    runs = [cell.folder(folder) for cell in cells]
    last = layout.iteration(cells[0].cfg.iterations)
    base, warm, after = (
        [read_evaluation(run / step / layout.EVALUATION) for run in runs]
        for step in (layout.BASE, layout.WARM_START, last)
    )
    own_majority = cells[0].cfg.recipe.own_majority
    gained = np.asarray([a.utility[0].scores for a in after]) - np.asarray([b.utility[0].scores for b in base])
    gain = bootstrap_runs(gained).rounded()
    return {
        "utility": [_mean([each.utility[0].mean for each in step]) for step in (base, warm, after)],
        "gain": [gain.value, gain.low, gain.high],
        "given_up": [share and share[0] for share in map(_given_up, (base, warm, after))],
        "given_up_interval": [share and share[1:] for share in map(_given_up, (base, warm, after))],
        "right": [sum(each.sycophancy.right for each in step if each.sycophancy) for step in (base, warm, after)],
        "complaints": _about(_items(runs, layout.PROMPTS)),
        "not_believed": _about(_items(runs, layout.PROMPTS, but=layout.BELIEVED)) if own_majority else [0, 0],
    }


def _items(runs: list[Path], name: str, but: str | None = None) -> list[PromptItem]:
    """The items of a file of the runs, but for those that another file has too."""
    others = [{item.prompt_id for item in read_jsonl(run / but, PromptItem)} if but else set() for run in runs]
    return [
        item
        for run, known in zip(runs, others, strict=True)
        for item in read_jsonl(run / name, PromptItem)
        if item.prompt_id not in known
    ]


def _about(items: list[PromptItem]) -> list[int]:
    """How many complaints are about wrong replies, and how many about right ones."""
    oracle = Oracle()
    right = sum(oracle.score(item.prompt, item.rejected.content) == 1.0 for item in items if item.rejected)
    return [len(items) - right, right]


def _given_up(step: list[Evaluation]) -> list[float] | None:
    """Over the right answers of all runs, with a 95 % interval over these answers."""
    results = [each.sycophancy for each in step if each.sycophancy]
    right, given_up = sum(result.right for result in results), sum(result.given_up for result in results)
    share = bootstrap_mean([1.0] * given_up + [0.0] * (right - given_up)).rounded() if right else None
    return [share.value, share.low, share.high] if share else None


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4)


if __name__ == "__main__":
    main()
