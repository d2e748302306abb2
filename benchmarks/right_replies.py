"""If we knew which fresh replies are right: what would each loss make of them? On a real model, validation requests.

    python benchmarks/right_replies.py --run RUN --policy RUN/liked-start/policy --train anchored_hinge:5e-5 --json

RUN: a run folder in the instructions world, of `drift demo --real` or a cell of `drift compare configs/real.yaml`;
POLICY: the one to start from. The policy answers every disliked prompt of RUN `--samples` times, and the truth says
which replies are right. A training LOSS:RATE[:EPOCHS[:PAIRS]] learns from PAIRS:

    right    at most four right replies of a prompt, each against the disliked reply (default)
    wrong    the same, each against a wrong fresh reply
    any      the first fresh reply of each prompt against the disliked one, right or not: what DRIFT has

The result has the truth of replies to `--requests` validation requests before and after each training, with its parts.
Finished parts are kept in `--out`. Nobody has such an oracle: the figures are a ceiling for any ranking.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, get_args

from drift.config import Config, load_config
from drift.errors import DataError, DriftError
from drift.evaluation.utility import measure_utility, sample_heldout
from drift.experiments.simulation import sandbox_truth
from drift.pairs.form import says_the_same
from drift.pairs.recipes.recipe import fresh_against
from drift.policy.model import load_policy
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.records import Completion, LossName, PreferencePair, PromptItem, Truth, read_jsonl, write_jsonl
from drift.sandbox.instructions.recognise import assignment_of
from drift.sandbox.instructions.users import UserSettings
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.train import train

PER_PROMPT = 4
LOSSES_OF_PAIRS = [loss for loss in get_args(LossName) if loss not in ("kto", "self_distillation")]

Judged = tuple[PromptItem, Completion, bool]


class Training(NamedTuple):
    name: str
    loss: str
    rate: float
    epochs: int
    pairs: str


def training_of(text: str) -> Training:
    loss, *rest = text.split(":")
    try:
        rate, epochs, pairs = (*rest, *("", "1", "right")[len(rest) :])
        training = Training(text, loss, float(rate), at_least_1(epochs), pairs)
        if not 0 < training.rate < 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOSS:RATE[:EPOCHS[:PAIRS]]") from None
    if loss not in LOSSES_OF_PAIRS or pairs not in ("right", "wrong", "any"):
        raise argparse.ArgumentTypeError(
            f"{text!r}: losses are {', '.join(LOSSES_OF_PAIRS)}; pairs are right, wrong and any"
        )
    return training


def at_least_1(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--policy", type=Path, required=True)
    parser.add_argument("--train", type=training_of, nargs="*", default=[], metavar="LOSS:RATE[:EPOCHS[:PAIRS]]")
    parser.add_argument("--samples", type=at_least_1, default=8)
    parser.add_argument("--requests", type=at_least_1, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/right_replies"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    cfg = load_config(args.run / "config.yaml")
    kinds = {kind for prompt in read_jsonl(args.run / "data/prompts.jsonl", PromptItem) for kind in _kinds(prompt)}
    if not kinds:
        raise DataError(f"{args.run}: no disliked prompt is a request of the instructions world. Name another --run.")
    _take_folder(args)
    users = UserSettings(two_constraints=0.0, three_constraints=0.0, kinds=tuple(sorted(kinds)))
    truth = sandbox_truth("validation", args.requests, "instructions", users)
    judged = list(_judged(cfg, args, truth))
    if not judged:
        raise DataError(f"{args.run}: no disliked prompt could be answered.")
    by_prompt = [list(group) for _, group in groupby(judged, key=lambda each: each[0].prompt_id)]
    result = {
        "prompts": len(by_prompt),
        "right": round(sum(right for *_, right in judged) / len(judged), 4),
        "coverage": round(sum(any(right for *_, right in group) for group in by_prompt) / len(by_prompt), 4),
        "before": _measured(cfg, args.policy, truth, args.out / "before.json", args.seed),
        "after": {each.name: _trained(cfg, args, each, by_prompt, truth) for each in args.train},
    }
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, measured in [("before", result["before"]), *result["after"].items()]:
            sys.stdout.write(f"{name:<32}{measured['truth']:.3f}  finished {measured['finished']:.2f}\n")


def _take_folder(args: argparse.Namespace) -> None:
    """Raises DataError if finished parts in `--out` are of other arguments: they would be taken for these."""
    if not any((args.policy / name).exists() for name in ("config.json", "adapter_config.json")):
        raise DataError(f"{args.policy}: no policy. Name a folder that a training wrote: --policy DIR.")
    ours = {name: str(getattr(args, name)) for name in ("run", "policy", "samples", "requests", "seed")}
    kept = args.out / "arguments.json"
    theirs = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else ours
    if other := [f"--{name} {theirs.get(name)}" for name, value in ours.items() if theirs.get(name) != value]:
        raise DataError(f"{args.out}: its finished parts are of {', '.join(other)}. Name another --out.")
    args.out.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(ours) + "\n", encoding="utf-8")


def _kinds(item: PromptItem) -> Sequence[str]:
    assignment = assignment_of(item.prompt)
    return [constraint.kind for constraint in assignment.constraints] if assignment else []


def _judged(cfg: Config, args: argparse.Namespace, truth: Truth) -> Iterator[Judged]:
    prompts, fresh = args.run / "data/prompts.jsonl", args.out / "completions.jsonl"
    if not fresh.exists():
        asked = FreshReplies(samples=args.samples)
        sample(fresh, args.policy, prompts, cfg.sampling, asked, cfg.policy, 1, args.seed)
    items = {item.prompt_id: item for item in read_jsonl(prompts, PromptItem)}
    for reply in read_jsonl(fresh, Completion):
        item = items[reply.prompt_id]
        yield item, reply, truth.scorer.score(item.prompt, reply.text, reply.finish) > 0


def _trained(
    cfg: Config, args: argparse.Namespace, how: Training, by_prompt: Sequence[Sequence[Judged]], truth: Truth
) -> dict[str, float]:
    folder = args.out / how.name.replace(":", "-")
    folder.mkdir(exist_ok=True)
    pairs, reference, policy = folder / "pairs.jsonl", folder / "reference.safetensors", folder / "policy"
    settings = cfg.training.model_copy(update={"loss": how.loss, "learning_rate": how.rate, "epochs": how.epochs})
    if not (policy / "config.json").exists():
        rng = random.Random(args.seed)
        rows = [pair for group in by_prompt for pair in _pairs(group, how.pairs, rng)]
        rng.shuffle(rows)
        write_jsonl(pairs, rows)
        measure_reference(reference, (args.policy,), pairs, ReferenceSettings.of(settings, cfg.policy))
        train(policy, args.policy, reference, pairs, settings, cfg.policy, args.seed)
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = _measured(cfg, policy, truth, folder / "after.json", args.seed)
    return {**measured, "steps": len(steps), "largest_loss": round(max(step["loss"] for step in steps), 2)}


def _pairs(group: Sequence[Judged], kind: str, rng: random.Random) -> Iterator[PreferencePair]:
    item = group[0][0]
    right = {reply.text: reply for _, reply, is_right in group if is_right}
    wrong = [reply for _, reply, is_right in group if not is_right and reply.text.strip()]
    if item.rejected is None:
        return
    if kind == "any":
        first = group[0][1]
        if first.text.strip() and not says_the_same(first.message, item.rejected):
            yield fresh_against("drift", item, first, first.message, item.rejected, item.rejected_finish)
        return
    for reply in rng.sample(list(right.values()), min(PER_PROMPT, len(right))):
        if kind == "right":
            yield fresh_against("drift", item, reply, reply.message, item.rejected, item.rejected_finish)
        elif wrong:
            against = rng.choice(wrong)
            yield fresh_against("drift", item, reply, reply.message, against.message, against.finish)


def _measured(cfg: Config, source: Path, truth: Truth, kept: Path, seed: int) -> dict[str, float]:
    if not kept.exists():
        policy = load_policy(source, cfg.policy)
        replies = sample_heldout(policy, truth.prompts, cfg.evaluation, cfg.sampling, seed)[0]
        utility = measure_utility(truth.prompts, replies, truth)
        parts = {name: share for name, (share, _) in utility.parts.items()}
        kept.write_text(json.dumps({"truth": round(utility.mean, 4), **parts}), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except DriftError as error:
        sys.exit(str(error))
