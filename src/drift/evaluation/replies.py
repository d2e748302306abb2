"""How a policy replies to held-out prompts: does it finish, how long is it, does it repeat itself, in which language?

No loss measures this: a policy that no longer ends its replies can have a perfect preference accuracy. So every policy
answers the same held-out prompts, sampled as in the run (where a truth is known: as its utility is measured), and the
stop rule compares the replies with the warm start's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drift.config import RecipeSettings, SamplingSettings
from drift.evaluation.results import MAX_PROMPTS, Asker, ReplyMeasure, ReplyStatistics
from drift.policy.decode import Generated
from drift.policy.sampler import generate_replies
from drift.policy.spread import AnyPolicy
from drift.records import ChatMessage, LossName, OfConversation
from drift.statistics import bootstrap_mean, standard_error, units_of
from drift.turns import LANGUAGE_CHARACTERS, words_of

MAX_FALL = 0.1
"""Largest fall of the share of finished replies below the warm start's."""

MAX_LENGTH_FACTOR = 1.5
"""Largest factor by which replies may become longer or shorter than the warm start's (geometric mean, in tokens)."""

MIN_COMMON = 5
"""With fewer replies the standard error is meaningless, and so is a share of them."""

FEW_FINISHED = 0.5
"""If fewer replies finish before training, most pairs are trained on without their ends, and a fall is hard to see."""

RUN_OF_WORDS = 4
"""Words in a row that count as a repetition where they stand in the text again."""


class Remedies(NamedTuple):
    """What to do where replies stop finishing, and where their length moves."""

    unfinished: str
    length: str


OF_WARM_START = Remedies(
    "Lower warm_start.learning_rate or warm_start.epochs, or raise sampling.max_new_tokens.",
    "what the warm start learned from may teach length instead of quality. Read some of it (warm_start.on), or "
    "lower warm_start.learning_rate.",
)


def measure_replies(
    policy: AnyPolicy,
    prompts: Sequence[tuple[ChatMessage, ...]],
    sampling: SamplingSettings,
    seed: int,
    work: Path | None = None,
    tools: Sequence[str | None] = (),
    rows: Sequence[OfConversation] = (),
) -> ReplyStatistics | None:
    """Statistics of one reply to each of the first MAX_PROMPTS prompts; None if none fits into the context.

    `tools`: the schemas of each prompt's tools. `rows`: as of `reply_statistics`. `work`: a folder for partial work, so
    that an interrupted command can resume.
    """
    asked = prompts[:MAX_PROMPTS]
    keys = [f"replies {seed} {i}" for i in range(len(asked))]
    replies = generate_replies(policy, asked, keys, sampling, work, tools[:MAX_PROMPTS])
    return reply_statistics(asked, replies, rows[:MAX_PROMPTS])


def reply_statistics(
    prompts: Sequence[tuple[ChatMessage, ...]],
    replies: Sequence[Generated | None],
    rows: Sequence[OfConversation] = (),
) -> ReplyStatistics | None:
    """Statistics of one reply to each prompt; None if there is no reply. `rows`: whose each prompt is, where it is
    known; the interval is over users then (`units_of`), else over prompts."""
    answered = [(i, prompt, reply) for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)) if reply]
    if not answered:
        return None
    each = tuple(
        ReplyMeasure(
            prompt=i,
            finished=reply.finish == "stop",
            tokens=len(reply.token_ids or ()),
            repetition=round(repetition(reply.text), 4),
            asker=Asker.of(rows[i]) if rows else None,
        )
        for i, _, reply in answered
    )
    languages = [same for _, prompt, reply in answered if (same := _same_language(prompt, reply.text)) is not None]
    finished = bootstrap_mean(
        [float(measure.finished) for measure in each], units=units_of([measure.whose for measure in each])
    )
    tokens = [measure.tokens for measure in each]
    return ReplyStatistics(
        prompts=len(each),
        finished=finished.value,
        finished_low=finished.low,
        finished_high=finished.high,
        median_tokens=float(np.median(tokens)),
        p90_tokens=float(np.quantile(tokens, 0.9)),
        repetition=float(np.mean([measure.repetition for measure in each])),
        same_language=sum(languages) / len(languages) if len(languages) >= MIN_COMMON else None,
        each=each,
    )


def remedies_of(recipe: RecipeSettings, loss: LossName) -> Remedies:
    """What a config with this recipe and this `training.loss` accepts."""
    makes_pairs = recipe.rules.makes_pairs
    hinge = " or"
    if makes_pairs and loss != "anchored_hinge":
        hinge = ", use training.loss: anchored_hinge with training.reference: warm_start, or"
    rows = "pairs may teach" if makes_pairs else "replies that it learns from may teach"
    matched = ""
    if recipe.rules.matches_length and not recipe.match_length:
        samples = " with recipe.samples: 2" if recipe.samples < 2 else ""
        matched = f"Set recipe.match_length: true{samples}, or lower"
    return Remedies(
        f"Lower training.learning_rate{hinge} raise sampling.max_new_tokens.",
        f"the {rows} length instead of quality. {matched or 'Lower'} training.learning_rate.",
    )


OF_DEFAULTS = remedies_of(RecipeSettings(), "sigmoid")


def few_finish(start: ReplyStatistics | None, max_new_tokens: int) -> str:
    """A warning if most replies are cut before any training; empty if not, or with too few replies to tell."""
    if start is None or start.prompts < MIN_COMMON or start.finished >= FEW_FINISHED:
        return ""
    return (
        f"Warning: before training, only {start.finished:.0%} of {start.prompts} held-out replies end within the token "
        f"limit (sampling.max_new_tokens: {max_new_tokens}). Most pairs will be of cut replies, and whether training "
        "harms the ends of replies can hardly be seen. Raise it to the limit of your deployment."
    )


def what_worsened(
    start: ReplyStatistics,
    now: ReplyStatistics,
    since: Literal["warm start", "base"] = "warm start",
    remedies: Remedies = OF_DEFAULTS,
) -> str:
    """What became worse since `start` (the warm start's or the base's replies), in words; empty if nothing did.

    Compared are the share of finished replies and their length in tokens, on the prompts that both answered. A change
    counts if it is larger than its limit and than twice the standard error of the paired difference over users.
    """
    before, after = ({measure.prompt: measure for measure in result.each} for result in (start, now))
    common = sorted(before.keys() & after.keys())
    if len(common) < MIN_COMMON:
        return ""
    units = units_of([after[i].whose for i in common])
    fall = np.array([float(before[i].finished) - after[i].finished for i in common])
    if _exceeds(fall, MAX_FALL, units):
        share_now, share_start = (np.mean([each[i].finished for i in common]) for each in (after, before))
        return (
            f"only {share_now:.0%} of {len(common)} held-out replies end within the token limit, against "
            f"{share_start:.0%} at the {since}: the policy unlearns to end its replies. {remedies.unfinished}"
        )
    growth = np.log([(after[i].tokens + 1) / (before[i].tokens + 1) for i in common])
    direction = np.sign(growth.mean())
    if not _exceeds(direction * growth, np.log(MAX_LENGTH_FACTOR), units):
        return ""
    longer = "longer" if growth.mean() > 0 else "shorter"
    return (
        f"held-out replies are {longer} by a factor of {np.exp(abs(growth.mean())):.2f} (median {now.median_tokens:g} "
        f"tokens, {start.median_tokens:g} at the {since}): {remedies.length}"
    )


def _exceeds(change: NDArray[np.float64], limit: float, units: Sequence[str]) -> bool:
    """True if the mean of `change` [n] is above `limit`, and above twice its standard error."""
    return bool(change.mean() > limit and change.mean() > 2 * standard_error(change, units))


def repetition(text: str) -> float:
    """The share of runs of RUN_OF_WORDS words that occur earlier in the text: 0 if it never repeats itself."""
    words = words_of(text)
    runs = [tuple(words[i : i + RUN_OF_WORDS]) for i in range(len(words) - RUN_OF_WORDS + 1)]
    return 1.0 - len(set(runs)) / len(runs) if runs else 0.0


def _same_language(prompt: Sequence[ChatMessage], reply: str) -> bool | None:
    """Whether request and reply are in the same language; None if one is too short to tell."""
    request = next((message.content for message in reversed(prompt) if message.role == "user"), "")
    if min(len(request), len(reply)) < LANGUAGE_CHARACTERS:
        return None
    import py3langid  # half a second to load

    return py3langid.classify(request)[0] == py3langid.classify(reply)[0]
