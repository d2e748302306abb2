"""True utility, where it is known: sample replies to held-out prompts and score them with the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drift.config import EvaluationSettings, SamplingSettings
from drift.evaluation.results import PairImprovement, UtilityResult
from drift.policy.decode import Generated
from drift.policy.sampler import generate_replies
from drift.policy.spread import AnyPolicy
from drift.progress import part_of
from drift.records import ChatMessage, Counts, Finish, PreferencePair, Truth, read_jsonl
from drift.statistics import bootstrap_mean


@dataclass(frozen=True, slots=True)
class HeldOutReplies:
    """Replies at one temperature (top-p 1): `count` of each held-out prompt, next to each other.

    None where the last user turn alone does not fit.
    """

    temperature: float
    count: int
    replies: tuple[Generated | None, ...]

    @property
    def first_of_each(self) -> tuple[Generated | None, ...]:
        return self.replies[:: self.count]


def sample_heldout(
    policy: AnyPolicy,
    prompts: Sequence[tuple[ChatMessage, ...]],
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    seed: int,
    work: Path | None = None,
) -> list[HeldOutReplies]:
    """Replies to the prompts at each of `settings.temperatures`; greedy decoding needs one of each only.

    `work`: a folder for partial work, so that an interrupted command can resume.
    """
    counts = [settings.samples if temperature > 0 else 1 for temperature in settings.temperatures]
    at_each, tokens = [], 0
    for i, (temperature, count) in enumerate(zip(settings.temperatures, counts, strict=True)):
        requests = [prompt for prompt in prompts for _ in range(count)]
        keys = [f"utility {seed} {row}" for row in range(len(requests))]
        as_measured = sampling.model_copy(update={"temperature": temperature, "top_p": 1.0})
        partial = work and work / f"temperature-{temperature:g}"
        with part_of(len(prompts) * sum(counts), len(prompts) * sum(counts[:i]), tokens) as tokens_so_far:
            replies = generate_replies(policy, requests, keys, as_measured, partial)
        tokens = tokens_so_far[0]
        at_each.append(HeldOutReplies(temperature, count, tuple(replies)))
    return at_each


def measure_utility(prompts: Sequence[tuple[ChatMessage, ...]], heldout: HeldOutReplies, truth: Truth) -> UtilityResult:
    """Mean utility of the replies, with an interval over prompts."""
    replies: list[tuple[tuple[ChatMessage, ...], str, Finish]] = [
        (prompts[i // heldout.count], "" if r is None else r.text, "stop" if r is None else r.finish)
        for i, r in enumerate(heldout.replies)
    ]
    scores = [truth.scorer.score(*reply) for reply in replies]
    per_prompt = np.asarray(scores).reshape(len(prompts), heldout.count).mean(axis=1)
    interval = bootstrap_mean(per_prompt.tolist())
    return UtilityResult(
        temperature=heldout.temperature,
        mean=interval.value,
        low=interval.low,
        high=interval.high,
        prompts=len(prompts),
        scores=tuple(round(score, 4) for score in per_prompt.tolist()),
        parts=_mean_parts([truth.parts(*reply) for reply in replies]) if truth.parts else {},
    )


def _mean_parts(of_replies: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, int]]:
    """By part: the mean over the replies that have it, and their number."""
    named: dict[str, list[float]] = {}
    for parts in of_replies:
        for name, value in parts.items():
            named.setdefault(name, []).append(value)
    return {name: (round(sum(values) / len(values), 4), len(values)) for name, values in sorted(named.items())}


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
