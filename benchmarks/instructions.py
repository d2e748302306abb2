"""Deploys a policy in the instructions world and measures the truth of its replies by kind and part.

    python benchmarks/instructions.py --model PATH --requests 40 --json

PATH: whatever `policy.model` takes (a folder, a GGUF file, a hub id). With `--chats N` the simulated users also chat
until the policy has given N replies; the logs are put into `--out` and what they hold is counted. `--show N` prints
the first N replies with the truth about them. Needs the extra `train`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from drift.config import PolicySettings, SamplingSettings
from drift.policy.model import Policy, load_policy
from drift.sandbox.instructions.chats import write_logs
from drift.sandbox.instructions.deployment import deploy_policy, heldout_truth
from drift.sandbox.instructions.truth import summarize
from drift.sandbox.instructions.users import UserSettings
from drift.sandbox.instructions.world import heldout_prompts, instructions_world_hash


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--part", choices=("validation", "test"), default="validation")
    parser.add_argument("--one-constraint", action="store_true", help="ask for one constraint at a time")
    parser.add_argument("--top-p", type=float, default=SamplingSettings().top_p)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chats", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    policy = load_policy(args.model, PolicySettings(model=args.model, dtype=args.dtype))
    sampling = SamplingSettings(temperature=args.temperature, top_p=args.top_p, max_new_tokens=args.max_new_tokens)
    users = UserSettings(two_constraints=0.0, three_constraints=0.0) if args.one_constraint else UserSettings()
    started = time.process_time()
    prompts = heldout_prompts(args.part, args.requests, users.mix)
    found = heldout_truth(policy, prompts, args.seed, sampling)
    summary = summarize([truth for _, truth in found])
    for prompt, (reply, truth) in list(zip(prompts, found, strict=True))[: args.show]:
        _say(f"--- {prompt[-1].content}\n{reply.text}\n    failed: {', '.join(truth.failed) or 'nothing'}")
    result = {
        "world": instructions_world_hash(),
        "model": args.model,
        "part": args.part,
        "temperature": args.temperature,
        "max_new_tokens": args.max_new_tokens,
        "top_p": args.top_p,
        "one_constraint": args.one_constraint,
        "seed": args.seed,
        **asdict(summary),
        "cpu_seconds": round(time.process_time() - started, 1),
    }
    if args.chats:
        result["chats"] = _chat(policy, args.chats, args.seed, sampling, users, args.out)
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        _table(result)


def _chat(
    policy: Policy, replies: int, seed: int, sampling: SamplingSettings, users: UserSettings, out: Path | None
) -> dict[str, int]:
    chats = deploy_policy(policy, replies, seed, sampling, users)
    with tempfile.TemporaryDirectory() as scratch:
        write_logs(chats, (out or Path(scratch)) / "logs", "policy")
    said = Counter(reaction.label for chat in chats for reaction in chat.reactions)
    return {"replies": replies, "chats": len(chats), **said}


def _table(result: dict) -> None:
    for name in ("right", "holds", "finished", "on_topic", "degenerate"):
        _say(f"{name:<16}{result[name]:.3f}")
    for kind, row in result["kinds"].items():
        _say(f"  {kind:<16}holds {row['holds']:.2f}  right {row['right']:.2f}  of {row['replies']}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
