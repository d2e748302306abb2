"""The stop rule's regret on the finished runs of a comparison, from the policies that they left behind.

    python benchmarks/stop_rule.py runs/stability/cells/*/* --json benchmarks/results/stop_rule.json

Regret: the best true utility of a run's iterations less that of the policy which the rule would have kept. The rule
also reads how the held-out replies end, from the evaluations of the run.
`mean_logps` is the former rule: stop at the first fall of the mean log-prob, whatever its size.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from drift.config import PolicySettings
from drift.errors import DataError, DriftError
from drift.evaluation.preference import measure_preference
from drift.evaluation.results import read_evaluation
from drift.evaluation.stopping import WATCHED, Watched, first_problem_of_replies, step_kept, stops_at
from drift.policy.model import load_policy
from drift.records import PreferencePair, read_jsonl


def steps_of(run: Path) -> list[Path]:
    iterations = sorted(run.glob("iteration-*"), key=lambda folder: int(folder.name.split("-")[1]))
    return [run / "warm-start", *iterations]


def policy_of(step: Path) -> Path:
    """Of a warm start without repairs to learn from, the policy is that of the SFT on liked replies."""
    return step / "policy" if (step / "policy").exists() else step.parent / "liked-start/policy"


def measured(run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likelihood per token of each watched reply [steps, replies], mean log-prob [steps], true utility [steps]."""
    steps = steps_of(run)
    if not (run / "heldout/pairs.jsonl").exists():
        raise DataError(f"{run}: no held-out pairs. Name a finished run of a comparison, runs/NAME/cells/ARM/RUN.")
    pairs = [pair for pair in read_jsonl(run / "heldout/pairs.jsonl", PreferencePair) if pair.split == "stop"]
    found = [measure_preference(load_policy(policy_of(step), PolicySettings()), pairs, 2048) for step in steps]
    each = [[pair.likelihood for pair in result.each] for result in found if result]
    logps = [result.logps_chosen for result in found if result]
    utility = [read_evaluation(step / "evaluation.json").utility[0].mean for step in steps]
    return np.array(each, dtype=float), np.array(logps), np.array(utility)


def kept_by_mean_logps(logps: np.ndarray) -> int:
    falls = (step for step in range(1, len(logps)) if logps[step] < logps[step - 1])
    return next(falls, len(logps)) - 1


def row(run: Path) -> dict[str, object]:
    watched, logps, utility = measured(run)
    enough = Watched(watched) if watched.shape[1] >= WATCHED["heldout_logps"].fewest else None
    problem, _ = first_problem_of_replies([step / "evaluation.json" for step in steps_of(run)])
    ends = [problem, None if enough is None else stops_at(enough, patience=1)]
    kept = step_kept(problem, enough, patience=1)
    kept = len(utility) - 1 if kept is None else kept  # without figures the rule never stops
    former = kept_by_mean_logps(logps)
    best = utility.max()
    return {
        "arm": run.parent.name,
        "run": run.name,
        "replies": watched.shape[1],
        "stopped_after": min((step for step in ends if step is not None), default=None),
        "kept": kept,
        "regret": round(float(best - utility[kept]), 4),
        "mean_logps_kept": former,
        "mean_logps_regret": round(float(best - utility[former]), 4),
        "last_regret": round(float(best - utility[-1]), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [row(run) for run in given.runs]
    told = {}
    for arm in sorted({str(found["arm"]) for found in rows}):
        mine = [found for found in rows if found["arm"] == arm]
        told[arm] = {"runs": len(mine)} | {
            name: {"mean": round(float(np.mean(values)), 4), "max": max(values)}
            for name in ("regret", "mean_logps_regret", "last_regret")
            for values in [[float(str(found[name])) for found in mine]]
        }
        print(arm, json.dumps(told[arm]))
    if given.json:
        given.json.write_text(json.dumps({"arms": told, "runs": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except DriftError as error:
        sys.exit(str(error))
