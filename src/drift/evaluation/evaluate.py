"""The evaluation stage: one policy in, evaluation.json out."""

from collections.abc import Sequence
from pathlib import Path

from drift.config import EvaluationSettings, PolicySettings, SamplingSettings
from drift.evaluation.preference import measure_preference
from drift.evaluation.results import Evaluation, SampleResult, write_evaluation
from drift.evaluation.utility import measure_utility
from drift.policy.model import Policy, load_policy
from drift.policy.sampler import generate_replies
from drift.records import Counts, PreferencePair, Truth, read_jsonl
from drift.rundir import partial_work

SHOWN, SHOWN_WITH_TRUTH = 20, 40
"""Requests whose replies are kept for people to read: where a truth is known, the best and the worst are looked for."""


def evaluate(
    out: Path,
    policy: Path | str,
    probes: Path,
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    policy_settings: PolicySettings,
    truth: Truth | None,
    seed: int,
) -> Counts:
    """Measure a policy on held-out pairs (`probes`) and, where a world knows it, its true utility.

    The test split gives the preference figures, the stop split those that the stop rule reads.
    """
    loaded = load_policy(policy, policy_settings)
    pairs = list(read_jsonl(probes, PreferencePair))
    test, stop = ([p for p in pairs if p.split == split][: settings.max_prompts] for split in ("test", "stop"))
    preference = measure_preference(loaded, test, settings.max_length)
    watched = measure_preference(loaded, stop, settings.max_length)
    work = partial_work(out)  # every reply that is made is kept for the next command, should this one be stopped
    utility = measure_utility(loaded, truth, settings, sampling, seed, work) if truth else []
    samples = _samples(loaded, pairs, sampling, truth, work / "samples")
    write_evaluation(out, Evaluation(preference=preference, stop=watched, utility=tuple(utility), samples=samples))
    counts: Counts = {f"utility_t{u.temperature:g}": round(u.mean, 4) for u in utility}
    return counts | ({"preference_accuracy": round(preference.accuracy, 4)} if preference else {})


def _samples(
    policy: Policy, pairs: Sequence[PreferencePair], sampling: SamplingSettings, truth: Truth | None, work: Path
) -> tuple[SampleResult, ...]:
    """Greedy replies to the same few held-out prompts at every iteration, for people to read."""
    prompts = truth.prompts[:SHOWN_WITH_TRUTH] if truth else tuple(pair.prompt for pair in pairs[:SHOWN])
    greedy = sampling.model_copy(update={"temperature": 0.0})
    replies = generate_replies(policy, prompts, [str(i) for i in range(len(prompts))], greedy, work)
    return tuple(
        SampleResult(
            prompt=prompt, completion=reply.text, utility=truth.scorer.score(prompt, reply.text) if truth else None
        )
        for prompt, reply in zip(prompts, replies, strict=True)
        if reply is not None
    )
