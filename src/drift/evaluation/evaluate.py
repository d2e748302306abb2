"""The evaluation stage: one policy in, evaluation.json out."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from drift.config import EvaluationSettings, PolicySettings, SamplingSettings
from drift.evaluation.preference import measure_liked, measure_preference
from drift.evaluation.replies import MIN_COMMON, measure_replies, reply_statistics
from drift.evaluation.results import (
    MAX_PROMPTS,
    SHOWN_PROMPTS,
    SHOWN_PROMPTS_WITH_TRUTH,
    Asker,
    Evaluation,
    ReplyStatistics,
    SampleResult,
    SycophancyResult,
    UtilityResult,
    read_evaluation,
    write_result,
)
from drift.evaluation.sycophancy import contradict_facts, contradict_heldout
from drift.evaluation.utility import measure_utility, sample_heldout
from drift.policy.decode import Generated
from drift.policy.sampler import generate_replies
from drift.policy.spread import AnyPolicy, policy_for_pieces
from drift.records import ChatMessage, Counts, PreferencePair, Scorer, Truth, read_jsonl
from drift.rundir import partial_work


def evaluate(
    out: Path,
    policy: Path | str,
    held_out: tuple[Path, Path],
    settings: EvaluationSettings,
    sampling: SamplingSettings,
    policy_settings: PolicySettings,
    truth: Truth | None,
    seed: int,
) -> Counts:
    """Measure a policy on what is held out and, where `truth` is known, its true utility.

    `held_out`: the file of pairs, and that of replies that users liked. The pairs' test split gives the reported
    preference accuracy, which chooses nothing. The stop rule reads the likelihoods of the stop split, or those of the
    liked replies of both splits, and whether fresh replies to the requests of both end and how long they are.
    """
    pairs, liked = (list(read_jsonl(path, PreferencePair)) for path in held_out)
    test, stop = ([p for p in pairs if p.split == split][: settings.max_prompts] for split in ("test", "stop"))
    with policy_for_pieces(policy, policy_settings) as loaded:
        preference = measure_preference(loaded, test, settings.max_length)
        stop_preference = measure_preference(loaded, stop, settings.max_length)
        likelihoods = measure_liked(loaded, liked[: settings.max_prompts], settings.max_length)
        work = partial_work(out)  # if this command is interrupted, the next one reuses the finished replies
        if truth:
            fresh = _with_truth(loaded, truth, settings, sampling, seed, work)
        else:
            fresh = _on_logs(loaded, pairs[:SHOWN_PROMPTS], [*stop, *test], liked, sampling, seed, work)
    evaluation = Evaluation(
        preference=preference,
        stop=stop_preference,
        liked=likelihoods,
        replies=fresh.replies,
        utility=fresh.utility,
        samples=fresh.samples,
        sycophancy=fresh.sycophancy,
        askers={pair.prompt_id: Asker.of(pair) for pair in (*test, *stop, *liked[: settings.max_prompts])},
    )
    write_result(out, evaluation)
    return _headline(evaluation)


class _Fresh(NamedTuple):
    """What the policy's fresh replies show; the fields of an Evaluation."""

    replies: ReplyStatistics | None
    samples: tuple[SampleResult, ...]
    sycophancy: SycophancyResult | None
    utility: tuple[UtilityResult, ...] = ()


def _with_truth(
    policy: AnyPolicy, truth: Truth, settings: EvaluationSettings, sampling: SamplingSettings, seed: int, work: Path
) -> _Fresh:
    """Replies to the requests of the truth, scored by it."""
    prompts = truth.prompts[: settings.max_prompts]
    heldout = sample_heldout(policy, prompts, settings, sampling, seed, work)
    utility = tuple(measure_utility(prompts, replies, truth) for replies in heldout)
    # the same replies serve every measure: on a real model, sampling them is most of an evaluation's time
    nearest = min(heldout, key=lambda each: abs(each.temperature - sampling.temperature))
    replies = reply_statistics(prompts[:MAX_PROMPTS], nearest.first_of_each[:MAX_PROMPTS])
    coolest = min(heldout, key=lambda each: each.temperature)
    samples = _samples(prompts, coolest.first_of_each[:SHOWN_PROMPTS_WITH_TRUTH], truth.scorer)
    # an answer that was right by luck would be given up without a word of doubt
    contradicted = (
        contradict_heldout(policy, prompts, coolest.first_of_each, truth, sampling, work / "contradicted")
        if coolest.temperature == 0
        else None
    )
    return _Fresh(replies, samples, contradicted, utility)


def _on_logs(
    policy: AnyPolicy,
    shown: Sequence[PreferencePair],
    asked: Sequence[PreferencePair],
    liked: Sequence[PreferencePair],
    sampling: SamplingSettings,
    seed: int,
    work: Path,
) -> _Fresh:
    """Replies to the requests of `asked`, for people to read those of `shown`, and answers to short questions."""
    if len(asked) < MIN_COMMON:  # too few complaints to see whether replies still end: other requests show it
        asked = [*asked, *liked]
    prompts, tools = [pair.prompt for pair in asked], [pair.tools for pair in asked]
    replies = measure_replies(policy, prompts, sampling, seed, work / "replies", tools, asked)
    samples = _greedy_samples(policy, shown, sampling, work / "samples")
    return _Fresh(replies, samples, contradict_facts(policy, sampling, work / "contradicted"))


def copy_evaluation(out: Path, evaluation: Path) -> Counts:
    """The evaluation of a policy that is the same as another one: it is not measured twice."""
    shutil.copy(evaluation, out)
    return _headline(read_evaluation(out))


def _headline(evaluation: Evaluation) -> Counts:
    counts: Counts = {f"utility_t{u.temperature:g}": round(u.mean, 4) for u in evaluation.utility}
    if (preference := evaluation.preference) is not None:
        counts["preference_accuracy"] = round(preference.accuracy, 4)
        if preference.length_accuracy is not None:
            counts["length_accuracy"] = round(preference.length_accuracy, 4)
    if (replies := evaluation.replies) is not None:
        counts["finished"] = round(replies.finished, 4)
        counts["median_tokens"], counts["p90_tokens"] = replies.median_tokens, round(replies.p90_tokens, 1)
        counts["repetition"] = round(replies.repetition, 4)
        if replies.same_language is not None:
            counts["same_language"] = round(replies.same_language, 4)
    if evaluation.liked:
        counts["liked_likelihood"] = round(sum(evaluation.liked.values()) / len(evaluation.liked), 4)
    if (contradicted := evaluation.sycophancy) is not None and contradicted.share is not None:
        counts["given_up"] = round(contradicted.share, 4)
    return counts


def _greedy_samples(
    policy: AnyPolicy, shown: Sequence[PreferencePair], sampling: SamplingSettings, work: Path
) -> tuple[SampleResult, ...]:
    """Greedy replies to the same few held-out prompts at every iteration, for people to read."""
    prompts = [pair.prompt for pair in shown]
    greedy = sampling.model_copy(update={"temperature": 0.0})
    keys = [str(i) for i in range(len(prompts))]
    return _samples(prompts, generate_replies(policy, prompts, keys, greedy, work, [pair.tools for pair in shown]))


def _samples(
    prompts: Sequence[tuple[ChatMessage, ...]], replies: Sequence[Generated | None], scorer: Scorer | None = None
) -> tuple[SampleResult, ...]:
    """The first of the replies, with their utility where it is known."""
    return tuple(
        SampleResult(
            prompt=prompt,
            completion=reply.text,
            utility=scorer.score(prompt, reply.text, reply.finish) if scorer else None,
        )
        for prompt, reply in zip(prompts, replies, strict=False)
        if reply is not None
    )
