"""The stages of a comparison alone: how far training moved a policy, and what it did to other kinds of requests."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from drift.config import EvaluationSettings, PolicySettings, SamplingSettings
from drift.errors import ConfigError
from drift.evaluation.results import Distance, Evaluation, read_evaluation, write_result
from drift.evaluation.utility import measure_utility, sample_heldout
from drift.policy.logps import reply_logps
from drift.policy.model import load_policy
from drift.records import ChatMessage, Counts, Finish, Truth
from drift.rundir import partial_work
from drift.sandbox.instructions.constraints import KINDS
from drift.sandbox.instructions.users import UserSettings


def with_other_kinds(users: UserSettings) -> UserSettings:
    """Users who ask for the kinds of constraints that `users` never ask for. Raises ConfigError if none is left."""
    others = tuple(name for name, kind in KINDS.items() if not kind.relative and name not in users.kinds)
    if not users.kinds or not others:
        raise ConfigError(
            "other_kinds: these users ask for every kind of constraint. Name some in deployment.users.kinds, or set 0."
        )
    return replace(users, kinds=others)


def measure_other_kinds(
    out: Path,
    policy: Path | str,
    truth: Truth,
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    policy_settings: PolicySettings,
    seed: int,
) -> Counts:
    """An evaluation with nothing but the utility on the requests of `truth`, which no user of the logs makes."""
    loaded = load_policy(policy, policy_settings)
    heldout = sample_heldout(loaded, truth.prompts, settings, sampling, seed, partial_work(out))
    utility = tuple(measure_utility(truth.prompts, replies, truth) for replies in heldout)
    write_result(out, Evaluation(utility=utility))
    return {f"utility.{result.temperature:g}": round(result.mean, 4) for result in utility}


def measure_distance(
    out: Path, policy: Path | str, base: Path | str, evaluation: Path, policy_settings: PolicySettings, max_length: int
) -> Counts:
    """How much likelier the policy finds its own replies in `evaluation` than the base does, in nats per token. Of
    replies at temperature 1, it would estimate KL(policy || base).

    The end-of-turn token does not count. Replies that are empty or do not fit `max_length` are left out.
    """
    samples = [sample for sample in read_evaluation(evaluation).samples if sample.completion]
    prompts = [sample.prompt for sample in samples]
    replies: list[tuple[ChatMessage, Finish]] = [(ChatMessage("assistant", s.completion), "length") for s in samples]
    by_policy, by_base = (
        reply_logps(load_policy(model, policy_settings), prompts, replies, max_length) for model in (policy, base)
    )
    each = tuple(
        round(after.per_token - before.per_token, 4)
        for after, before in zip(by_policy, by_base, strict=True)
        if after and before
    )
    out.write_text(Distance(each=each).model_dump_json() + "\n", encoding="utf-8")
    return {"replies": len(each), **({"nats_per_token": round(float(np.mean(each)), 4)} if each else {})}
