"""Was it noise? Further test requests of the instructions world, for two policies of one run that is finished.

    python benchmarks/further_requests.py --run RUN --before warm-start --after iteration-1 --requests 600 --json

RUN: a cell of `drift compare` with a world of instructions. Its evaluations asked the first held-out test requests (200
in `configs/real.yaml`); both policies answer those that follow, up to `--requests`, with the same settings and random
numbers as an evaluation of that many. The result has truth and its paired difference on the new requests, and on all.
Finished batches are kept in `--out`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from drift.config import Config, load_config
from drift.errors import DataError, DriftError
from drift.evaluation.results import Evaluation, UtilityResult, read_evaluation
from drift.evaluation.utility import HeldOutReplies, measure_utility
from drift.experiments.simulation import sandbox_truth
from drift.policy.model import load_policy
from drift.policy.sampler import generate_replies
from drift.records import Truth
from drift.rundir import layout
from drift.sandbox.instructions.deployment import RIGHT
from drift.sandbox.instructions.users import UserSettings
from drift.statistics import Share, bootstrap_mean, paired_difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--before", default=layout.WARM_START, help="a step of the run: base, warm-start, iteration-1")
    parser.add_argument("--after", default="iteration-1")
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("runs/further_requests"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    cfg = load_config(args.run / "config.yaml")
    asked = {step: _utility(args.run, step, cfg) for step in (args.before, args.after)}
    first = asked[args.before].prompts
    if asked[args.after].prompts != first or first >= args.requests:
        raise DataError(f"{args.run}: its evaluations asked {first} requests. Set --requests higher.")
    truth = _truth(cfg, args.run, args.after, args.requests)
    further = {step: _scores(cfg, args, step, truth, first) for step in asked}
    every = {step: [*asked[step].scores, *further[step]] for step in asked}
    result = {
        "before": args.before,
        "after": args.after,
        "further": _compared(further[args.before], further[args.after]),
        "all": _compared(every[args.before], every[args.after]),
    }
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name in ("further", "all"):
            row = result[name]
            sys.stdout.write(f"{name:<8} {row['requests']} requests: {row['before'][0]:.3f}, {row['after'][0]:.3f}: ")
            sys.stdout.write("{:+.3f} [{:+.3f}, {:+.3f}]\n".format(*row["difference"]))


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


def _scores(cfg: Config, args: argparse.Namespace, step: str, truth: Truth, first: int) -> list[float]:
    folder = args.run / step / layout.POLICY
    source = folder if folder.exists() else args.run / layout.LIKED_START / layout.POLICY
    if step == layout.BASE:
        source = cfg.policy.model
    policy = load_policy(source, cfg.policy)
    sampling = cfg.sampling.model_copy(update={"temperature": cfg.evaluation.temperatures[0], "top_p": 1.0})
    keys = [f"utility {cfg.seed} {row}" for row in range(first, args.requests)]
    prompts = truth.prompts[first:]
    replies = generate_replies(policy, prompts, keys, sampling, args.out / step)
    return list(measure_utility(prompts, HeldOutReplies(sampling.temperature, 1, tuple(replies)), truth).scores)


def _compared(before: Sequence[float], after: Sequence[float]) -> dict:
    return {
        "requests": len(before),
        "before": _rounded(bootstrap_mean(before)),
        "after": _rounded(bootstrap_mean(after)),
        "difference": _rounded(paired_difference(before, after)),
    }


def _rounded(share: Share) -> list[float]:
    rounded = share.rounded()
    return [rounded.value, rounded.low, rounded.high]


if __name__ == "__main__":
    try:
        main()
    except DriftError as error:
        sys.exit(str(error))
