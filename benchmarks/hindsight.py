"""Does hindsight tell a right reply from a wrong one? A real model answers disliked prompts again, several times.

    python benchmarks/hindsight.py --json
    python benchmarks/hindsight.py --reader qwen2.5-coder-1.5b --json
    python benchmarks/hindsight.py --scorer judge --judge http://127.0.0.1:8000/v1#NAME --json
    python benchmarks/hindsight.py --model FOLDER --replies 800 --prompts 150 --samples 4 --scorer self --json

The model chats in the instructions world (the users of `drift demo --real`). Each disliked prompt gets `--samples`
fresh unguided replies; the scorer (default: hindsight) ranks them, and the world's truth says which are right.
`--reader`: the model whose likelihoods are the scores of `hindsight` and `self` (default: the model that chats).
`auroc_within`: over all pairs of a right and a wrong reply to one prompt, the share in which the right one has the
higher score; ties count half. `best`: the share of prompts whose highest-scored reply is right; `random`: expected of a
reply at random; `coverage`: the share with any right reply. Intervals: 95 %, resampling prompts. Stages are kept in
`--out` and resumed. Needs the extra `train`.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drift.config import Config, ScorerSettings
from drift.endpoint import Endpoint, require_model
from drift.endpoint.options import endpoint_settings
from drift.errors import DataError, DriftError
from drift.evaluation.guidance import pick_prompts
from drift.experiments.demo_real import USERS, real_config, write_deployment
from drift.experiments.packaged import local_model
from drift.pairs.stages import find_prompts
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.records import Completion, PromptItem, Score, read_jsonl
from drift.run import collect, open_run
from drift.rundir import RunDir, layout
from drift.sandbox.instructions.deployment import truth_of_instructions
from drift.sandbox.instructions.world import instructions_world_hash
from drift.scoring.feedback_reward import JudgedTurnSettings, fit_feedback_reward
from drift.scoring.stage import score_replies
from drift.start import base_model
from drift.statistics import bootstrap_ratio

FOLDER = "hindsight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--replies", type=at_least(1), default=400)
    parser.add_argument("--prompts", type=at_least(1), default=100)
    parser.add_argument("--samples", type=at_least(2), default=4)
    parser.add_argument("--scorer", choices=("hindsight", "self", "feedback", "judge"), default="hindsight")
    parser.add_argument("--reader")
    parser.add_argument("--judge", metavar="URL#MODEL")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/hindsight"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.reader and args.scorer not in ("hindsight", "self"):
        parser.error(f"--reader: the scorer {args.scorer} does not use it; allowed here: hindsight, self")
    if args.judge and args.scorer != "judge":
        parser.error(f"--judge: the scorer {args.scorer} does not ask it; add --scorer judge")
    judge = endpoint_settings(args.judge) if args.scorer == "judge" else None
    if judge is not None:
        with Endpoint(judge) as endpoint:
            require_model(endpoint)  # before the chats, which take minutes
    scorer, reader = ScorerSettings(name=args.scorer, endpoint=judge), _reader(args)
    cfg = real_config(local_model(args.model), args.seed, args.out)
    with open_run(cfg, args.out) as run:
        ranked = _ranked(cfg, run, args, scorer, reader)
    if not ranked:
        raise DataError(
            f"{args.out}: no user disliked a reply that can be answered again among {args.replies} replies of "
            f"{args.model}. Raise --replies."
        )
    result = {
        "world": instructions_world_hash(),
        "model": args.model,
        "scorer": args.scorer,
        "reader": judge.model if judge else args.reader or args.model,
        "seed": args.seed,
        "samples": args.samples,
        **summary(ranked),
    }
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, value in result.items():
            sys.stdout.write(f"{name:<14}{value}\n")


def at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: at least {least}")
        return int(text)

    return number


Ranked = list[list[tuple[float, bool]]]


def _ranked(
    cfg: Config, run: RunDir, args: argparse.Namespace, scorer: ScorerSettings, reader: Path | str | None
) -> Ranked:
    """For each prompt, the score of every fresh reply and whether it is right."""
    write_deployment(cfg, run, args.replies)
    store = collect(cfg, run)
    prompts = run.stage(layout.PROMPTS, find_prompts, store=store, settings=cfg.labels, split="train")
    folder, policy = run.folder(FOLDER), base_model(cfg, run)
    asked = folder.stage(
        layout.TRIAL_PROMPTS, pick_prompts, prompts=prompts, count=args.prompts, seed=cfg.seed, iteration=0
    )
    completions = folder.stage(
        layout.COMPLETIONS, sample, policy=policy, prompts=asked, sampling=cfg.sampling,
        fresh=FreshReplies(samples=args.samples),
        policy_settings=cfg.policy, iteration=0, seed=cfg.seed,
    )  # fmt: skip
    reward = None
    if scorer.name == "feedback":
        reward = folder.stage(
            layout.FEEDBACK_REWARD, fit_feedback_reward, store=store, start=policy, settings=scorer.feedback,
            policy_settings=cfg.policy, max_length=cfg.evaluation.max_length, seed=cfg.seed,
            which=JudgedTurnSettings.of(cfg.labels, cfg.warm_start),
        )  # fmt: skip
    scores = folder.stage(
        layout.SCORES, score_replies, settings=scorer,
        policy=reader or policy, replies=(asked, completions), policy_settings=cfg.policy,
        max_length=cfg.evaluation.max_length, truth=None, seed=cfg.seed, reward=reward,
    )  # fmt: skip
    oracle = truth_of_instructions("test", 1, USERS).scorer
    prompt_of = {item.prompt_id: item.prompt for item in read_jsonl(asked, PromptItem)}
    score_of = {(row.prompt_id, row.sample): row.score for row in read_jsonl(scores, Score)}
    ranked: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row in read_jsonl(completions, Completion):
        score = score_of[row.prompt_id, row.sample]
        if score is not None and row.finish != "error":
            right = oracle.score(prompt_of[row.prompt_id], row.text, row.finish) == 1.0
            ranked[row.prompt_id].append((score, right))
    return [replies for _, replies in sorted(ranked.items())]


def _reader(args: argparse.Namespace) -> Path | str | None:
    """The model of `--reader`, unpacked into a folder of its own if it is a GGUF file."""
    if args.reader is None:
        return None
    out = args.out / "reader"
    cfg = real_config(local_model(args.reader), args.seed, out)
    with open_run(cfg, out) as run:
        return base_model(cfg, run)


def summary(ranked: list[list[tuple[float, bool]]]) -> dict[str, object]:
    """The figures of the module's docstring, of (score, is right) for every reply to every prompt."""
    concordant, pairs = [], []
    for replies in ranked:
        right = np.array([score for score, is_right in replies if is_right])[:, None]
        wrong = np.array([score for score, is_right in replies if not is_right])[None, :]
        concordant.append(float(((right > wrong) + 0.5 * (right == wrong)).sum()))
        pairs.append(float(right.size * wrong.size))
    groups = list(range(len(ranked)))
    mixed = [i for i in groups if pairs[i]]
    auroc = None
    if mixed:
        found = bootstrap_ratio([concordant[i] for i in mixed], [pairs[i] for i in mixed], mixed)
        auroc = [round(found.value, 4), round(found.low, 4), round(found.high, 4)]
    best = [float(max(replies, key=lambda reply: reply[0])[1]) for replies in ranked]
    at_random = [float(np.mean([right for _, right in replies])) for replies in ranked]
    gain = bootstrap_ratio([b - r for b, r in zip(best, at_random, strict=True)], [1.0] * len(ranked), groups)
    return {
        "prompts": len(ranked),
        "replies": sum(map(len, ranked)),
        "mixed_prompts": len(mixed),
        "auroc_within": auroc,
        "best": round(float(np.mean(best)), 4),
        "random": round(float(np.mean(at_random)), 4),
        "best_over_random": [round(gain.value, 4), round(gain.low, 4), round(gain.high, 4)],
        "coverage": round(float(np.mean([any(right for _, right in replies) for replies in ranked])), 4),
    }


if __name__ == "__main__":
    try:
        main()
    except DriftError as error:
        sys.exit(str(error))
