"""How a policy replies to held-out prompts: does it finish, how long is it, does it repeat itself, in which language?

No loss watches this, and a policy that unlearns to end its replies has a perfect preference accuracy. So every policy
answers the same held-out prompts, sampled as in the run, and the stop rule compares the replies with the warm start's.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drift.config import SamplingSettings
from drift.evaluation.results import ReplyMeasure, ReplyStatistics
from drift.policy.model import Policy
from drift.policy.sampler import generate_replies
from drift.records import ChatMessage
from drift.statistics import bootstrap_mean

MAX_PROMPTS = 100
"""Held-out prompts that every policy answers for this measure."""

MAX_FALL = 0.1
"""Largest fall of the share of finished replies below the warm start's."""

MAX_LENGTH_FACTOR = 1.5
"""Largest factor by which replies may become longer or shorter than the warm start's (geometric mean, in tokens)."""

MIN_COMMON = 5
"""With fewer replies the standard error is meaningless."""

RUN_OF_WORDS = 4
MIN_CHARACTERS = 40
"""The language of a shorter text is a guess."""


def measure_replies(
    policy: Policy,
    prompts: Sequence[tuple[ChatMessage, ...]],
    sampling: SamplingSettings,
    seed: int,
    work: Path | None = None,
) -> ReplyStatistics | None:
    """One reply to each of the first MAX_PROMPTS prompts; None if no prompt fits.

    `work`: a folder for partial work, so that an interrupted command can resume.
    """
    asked = prompts[:MAX_PROMPTS]
    keys = [f"replies {seed} {i}" for i in range(len(asked))]
    replies = generate_replies(policy, asked, keys, sampling, work)
    answered = [(i, prompt, reply) for i, (prompt, reply) in enumerate(zip(asked, replies, strict=True)) if reply]
    if not answered:
        return None
    each = tuple(
        ReplyMeasure(
            prompt=i,
            finished=reply.finish == "stop",
            tokens=len(reply.token_ids or ()),
            repetition=round(repetition(reply.text), 4),
        )
        for i, _, reply in answered
    )
    languages = [language for _, prompt, reply in answered if (language := _same_language(prompt, reply.text))]
    finished = bootstrap_mean([float(measure.finished) for measure in each])
    tokens = [measure.tokens for measure in each]
    return ReplyStatistics(
        prompts=len(each),
        finished=finished.value,
        finished_low=finished.low,
        finished_high=finished.high,
        median_tokens=float(np.median(tokens)),
        p90_tokens=float(np.quantile(tokens, 0.9)),
        repetition=float(np.mean([measure.repetition for measure in each])),
        same_language=languages.count("same") / len(languages) if languages else None,
        each=each,
    )


def what_worsened(start: ReplyStatistics, now: ReplyStatistics) -> str:
    """The cause in words if finished share or length moved beyond its limit since the warm start, else an empty text.

    A change counts only where it is also larger than twice the standard error of the paired difference.
    """
    before, after = ({measure.prompt: measure for measure in result.each} for result in (start, now))
    common = sorted(before.keys() & after.keys())
    if len(common) < MIN_COMMON:
        return ""
    fall = np.array([float(before[i].finished) - after[i].finished for i in common])
    if _exceeds(fall, MAX_FALL):
        return (
            f"only {now.finished:.0%} of {len(common)} held-out replies end within the token limit, against "
            f"{start.finished:.0%} at the warm start: the policy unlearns to end its replies. Lower "
            "training.learning_rate, use training.loss: anchored, or raise sampling.max_new_tokens."
        )
    growth = np.log([(after[i].tokens + 1) / (before[i].tokens + 1) for i in common])
    if not _exceeds(np.sign(growth.mean()) * growth, np.log(MAX_LENGTH_FACTOR)):
        return ""
    longer = "longer" if growth.mean() > 0 else "shorter"
    return (
        f"held-out replies are {longer} by a factor of {np.exp(abs(growth.mean())):.2f} (median {now.median_tokens:g} "
        f"tokens, {start.median_tokens:g} at the warm start): the pairs may teach length instead of quality. Set "
        "recipe.match_length: true, or lower training.learning_rate."
    )


def _exceeds(change: NDArray[np.float64], limit: float) -> bool:
    """True if the mean of `change` [n] is above `limit`, and above twice its standard error."""
    return bool(change.mean() > limit and change.mean() > 2 * change.std(ddof=1) / np.sqrt(len(change)))


def repetition(text: str) -> float:
    """The share of runs of RUN_OF_WORDS words that stand in the text before: 0 for a text that never repeats itself."""
    words = text.split()
    runs = [tuple(words[i : i + RUN_OF_WORDS]) for i in range(len(words) - RUN_OF_WORDS + 1)]
    return 1.0 - len(set(runs)) / len(runs) if runs else 0.0


def _same_language(prompt: Sequence[ChatMessage], reply: str) -> str:
    """`same` if request and reply are in one language, `other` if not, empty if one is too short to tell."""
    request = next((message.content for message in reversed(prompt) if message.role == "user"), "")
    if min(len(request), len(reply)) < MIN_CHARACTERS:
        return ""
    import py3langid  # half a second to load

    return "same" if py3langid.classify(request)[0] == py3langid.classify(reply)[0] else "other"
