"""True utility, where it is known: sample replies to held-out prompts and score them with the truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drift.config import EvaluationSettings, SamplingSettings
from drift.evaluation.results import PairImprovement, UtilityResult
from drift.policy.model import Policy
from drift.policy.sampler import generate_replies
from drift.records import ChatMessage, Counts, PreferencePair, Scorer, Truth, read_jsonl
from drift.statistics import bootstrap_mean


def measure_utility(
    policy: Policy,
    truth: Truth,
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    seed: int,
    work: Path | None = None,
) -> list[UtilityResult]:
    """Mean utility at each temperature (top-p 1), with an interval over prompts; greedy decoding needs one sample only.

    `work`: a folder for partial work, so that an interrupted command can resume.
    """
    prompts = truth.prompts[: settings.max_prompts]
    return [
        _at_temperature(policy, prompts, truth.scorer, sampling.model_copy(update=update), seed, count, work)
        for temperature in settings.temperatures
        for update in [{"temperature": temperature, "top_p": 1.0}]
        for count in [settings.samples if temperature > 0 else 1]
    ]


def _at_temperature(
    policy: Policy,
    prompts: Sequence[tuple[ChatMessage, ...]],
    scorer: Scorer,
    sampling: SamplingSettings,
    seed: int,
    count: int,
    work: Path | None,
) -> UtilityResult:
    requests = [prompt for prompt in prompts for _ in range(count)]
    keys = [f"utility {seed} {i}" for i in range(len(requests))]
    partial = work and work / f"temperature-{sampling.temperature:g}"
    replies = generate_replies(policy, requests, keys, sampling, partial)
    scores = [
        scorer.score(p, "" if r is None else r.text, "stop" if r is None else r.finish)
        for p, r in zip(requests, replies, strict=True)
    ]
    per_prompt = np.asarray(scores).reshape(len(prompts), count).mean(axis=1)
    interval = bootstrap_mean(per_prompt.tolist())
    return UtilityResult(
        temperature=sampling.temperature,
        mean=interval.value,
        low=interval.low,
        high=interval.high,
        prompts=len(prompts),
        scores=tuple(round(score, 4) for score in per_prompt.tolist()),
    )


def measure_improvement(out: Path, pairs: Path, truth: Truth) -> Counts:
    """Write improvement.json for the pairs (at least one) of an iteration. Training never reads it."""
    gaps = [
        truth.scorer.score(pair.prompt, pair.chosen[0].content, pair.finish)
        - truth.scorer.score(pair.prompt, pair.rejected[0].content, pair.rejected_finish)
        for pair in read_jsonl(pairs, PreferencePair)
    ]
    count = len(gaps)
    better, worse = sum(gap > 0 for gap in gaps) / count, sum(gap < 0 for gap in gaps) / count
    improvement = PairImprovement(
        better=better, worse=worse, equal=1 - better - worse, gap=sum(gaps) / count, pairs=count
    )
    out.write_text(improvement.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return {"p_imp": round(better, 4), "worse": round(worse, 4)}
