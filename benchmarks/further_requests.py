"""Was it noise? Further test requests of the instructions world, for two policies of finished runs.

    python benchmarks/further_requests.py --run RUN ... --before warm-start --after iteration-1 --requests 600 --json

RUN: a cell of `drift compare` with a world of instructions; several are seeds of one arm. Its evaluations asked the
first held-out test requests (200 in `configs/real.yaml`); both policies answer those that follow, up to `--requests`,
with the same settings and random numbers as an evaluation of that many. The result has truth and its paired difference
on the new requests, and on all, and on all of each kind. Intervals are over requests, with several runs also over runs.
Finished batches are kept in `--out`.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drift.config import Config, load_config
from drift.errors import DataError, DriftError
from drift.evaluation.results import Evaluation, UtilityResult, read_evaluation
from drift.evaluation.utility import HeldOutReplies, measure_utility
from drift.experiments.simulation import sandbox_truth
from drift.policy.model import load_policy
from drift.policy.sampler import generate_replies
from drift.records import ChatMessage, Truth
from drift.rundir import layout
from drift.sandbox.instructions.deployment import RIGHT
from drift.sandbox.instructions.users import UserSettings
from drift.statistics import Share, bootstrap_mean, bootstrap_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, nargs="+")
    parser.add_argument("--before", default=layout.WARM_START, help="a step of the run: base, warm-start, iteration-1")
    parser.add_argument("--after", default="iteration-1")
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("runs/further_requests"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    runs = [_answer(run, args) for run in args.run]
    first, kinds = runs[0].first, runs[0].kinds
    if any((run.first, run.kinds) != (first, kinds) for run in runs):
        raise DataError("the runs were asked different requests. Name seeds of one arm of one comparison.")
    before, after = (np.asarray([getattr(run, side) for run in runs]) for side in ("before", "after"))
    by_kind = defaultdict(list)
    for row, kind in enumerate(kinds):
        by_kind[kind].append(row)
    result = {
        "before": args.before,
        "after": args.after,
        "runs": len(runs),
        "further": _compared(before[:, first:], after[:, first:]),
        "all": _compared(before, after),
        "kinds": {kind: _compared(before[:, rows], after[:, rows]) for kind, rows in sorted(by_kind.items())},
    }
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, row in {"further": result["further"], "all": result["all"], **result["kinds"]}.items():
            sys.stdout.write(
                f"{name:<15} {row['requests']:>4} requests: {row['before'][0]:.3f}, {row['after'][0]:.3f}: "
            )
            sys.stdout.write("{:+.3f} [{:+.3f}, {:+.3f}]\n".format(*row["difference"]))


@dataclass(frozen=True, slots=True)
class Answered:
    """The truth of each request's reply at the two steps of one run; the first `first` are of its own evaluations."""

    first: int
    kinds: tuple[str, ...]
    before: list[float]
    after: list[float]


def _answer(run: Path, args: argparse.Namespace) -> Answered:
    cfg = load_config(run / "config.yaml")
    asked = {step: _utility(run, step, cfg) for step in (args.before, args.after)}
    first = asked[args.before].prompts
    if asked[args.after].prompts != first or first >= args.requests:
        raise DataError(f"{run}: its evaluations asked {first} requests. Set --requests higher.")
    truth = _truth(cfg, run, args.after, args.requests)
    scores = {step: [*asked[step].scores, *_scores(cfg, run, args, step, truth, first)] for step in asked}
    kinds = tuple(_kind(truth, prompt) for prompt in truth.prompts)
    return Answered(first, kinds, scores[args.before], scores[args.after])


def _kind(truth: Truth, prompt: tuple[ChatMessage, ...]) -> str:
    """The kind of the request's one constraint."""
    parts = truth.parts(prompt, "", "stop") if truth.parts else {}
    return next(part.removeprefix(RIGHT) for part in parts if part.startswith(RIGHT))


def _utility(run: Path, step: str, cfg: Config) -> UtilityResult:
    """What the evaluation of a step measured at the run's one temperature."""
    path = run / step / layout.EVALUATION
    if not path.exists():
        raise DataError(f"{path}: no evaluation. Name a finished run, and steps of it (--before, --after).")
    utility = read_evaluation(path).utility
    if len(utility) != 1 or cfg.evaluation.samples != 1 or not utility[0].scores:
        raise DataError(f"{run / step}: not evaluated with one reply to each of some test requests at one temperature.")
    return utility[0]


def _truth(cfg: Config, run: Path, step: str, count: int) -> Truth:
    """The test requests of the kinds that the run's evaluation has; raises DataError if they begin with others."""
    evaluation = read_evaluation(run / step / layout.EVALUATION)
    kinds = tuple(part.removeprefix(RIGHT) for part in evaluation.utility[0].parts if part.startswith(RIGHT))
    users = UserSettings(two_constraints=0.0, three_constraints=0.0, kinds=kinds)
    truth = sandbox_truth("test", count, "instructions", users)
    if not _begins_with(truth, evaluation):
        raise DataError(
            f"{run}: its test requests are others. Name a run in the instructions world, one constraint each."
        )
    return truth


def _begins_with(truth: Truth, evaluation: Evaluation) -> bool:
    shown = [sample.prompt for sample in evaluation.samples]
    return bool(shown) and shown == list(truth.prompts[: len(shown)])


def _scores(cfg: Config, run: Path, args: argparse.Namespace, step: str, truth: Truth, first: int) -> list[float]:
    folder = run / step / layout.POLICY
    source = folder if folder.exists() else run / layout.LIKED_START / layout.POLICY
    if step == layout.BASE:
        source = cfg.policy.model
    policy = load_policy(source, cfg.policy)
    sampling = cfg.sampling.model_copy(update={"temperature": cfg.evaluation.temperatures[0], "top_p": 1.0})
    keys = [f"utility {cfg.seed} {row}" for row in range(first, args.requests)]
    prompts = truth.prompts[first:]
    replies = generate_replies(policy, prompts, keys, sampling, args.out / f"{run.parent.name}-{run.name}" / step)
    return list(measure_utility(prompts, HeldOutReplies(sampling.temperature, 1, tuple(replies)), truth).scores)


def _compared(before: NDArray[np.float64], after: NDArray[np.float64]) -> dict:
    """Of scores [runs, requests] before and after."""
    return {
        "requests": before.shape[1],
        "before": _rounded(_mean(before)),
        "after": _rounded(_mean(after)),
        "difference": _rounded(_mean(after - before)),
    }


def _mean(scores: NDArray[np.float64]) -> Share:
    return bootstrap_mean(scores[0].tolist()) if len(scores) == 1 else bootstrap_runs(scores)


def _rounded(share: Share) -> list[float]:
    rounded = share.rounded()
    return [rounded.value, rounded.low, rounded.high]


if __name__ == "__main__":
    try:
        main()
    except DriftError as error:
        sys.exit(str(error))
