"""Preference accuracy on held-out complaints: how often is the fresh reply likelier than the disliked one?

The pairs are fixed: y- is what the user disliked, y+ was sampled once, guided, from the warm start. Log-probs are
compared per token, so that the length of a reply does not decide.
"""

import math
from collections.abc import Sequence

import numpy as np

from drift.evaluation.results import PairResult, PreferenceResult
from drift.policy.logps import ReplyLogps, reply_logps
from drift.policy.spread import AnyPolicy
from drift.records import ChatMessage, Finish, PreferencePair
from drift.statistics import bootstrap_mean, units_of


def measure_preference(policy: AnyPolicy, pairs: Sequence[PreferencePair], max_length: int) -> PreferenceResult | None:
    """Compare both replies of each pair; None if no pair fits into `max_length`.

    `margin`, `logps_chosen`: nats per reply; the interval is over users (`units_of`).
    """
    prompts = [pair.prompt for pair in pairs]
    tools = [pair.tools for pair in pairs]
    finishes: list[Finish] = [_finish(pair) for pair in pairs]
    chosen, rejected = (
        reply_logps(policy, prompts, list(zip(replies, finishes, strict=True)), max_length, tools)
        for replies in ([pair.chosen[0] for pair in pairs], [pair.rejected[0] for pair in pairs])
    )
    scored = [(pair, c, r) for pair, c, r in zip(pairs, chosen, rejected, strict=True) if c and r]
    if not scored:
        return None
    each = tuple(
        PairResult(
            prompt_id=pair.prompt_id,
            right=c.per_token > r.per_token,
            margin=round(c.total - r.total, 4),
            likelihood=_likelihood(c),
        )
        for pair, c, r in scored
    )
    interval = bootstrap_mean([float(result.right) for result in each], units=units_of([pair for pair, *_ in scored]))
    return PreferenceResult(
        accuracy=interval.value,
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        margin=float(np.mean([c.total - r.total for _, c, r in scored])),
        logps_chosen=float(np.mean([c.total for _, c, _ in scored])),
        pairs=len(scored),
        each=each,
        length_accuracy=_length_accuracy([(c.tokens, r.tokens) for _, c, r in scored]),
    )


def measure_liked(policy: AnyPolicy, liked: Sequence[PreferencePair], max_length: int) -> dict[str, float]:
    """Likelihood per token, in [0, 1], of each liked reply (`chosen`), by prompt id, if it fits `max_length`."""
    replies: list[tuple[ChatMessage, Finish]] = [(row.chosen[0], _finish(row)) for row in liked]
    logps = reply_logps(policy, [row.prompt for row in liked], replies, max_length, [row.tools for row in liked])
    return {row.prompt_id: _likelihood(reply) for row, reply in zip(liked, logps, strict=True) if reply}


def _finish(pair: PreferencePair) -> Finish:
    """As in training, neither side has its end token if one is unfinished; unlike there, both keep their lengths."""
    return "stop" if pair.is_finished else "length"


def _likelihood(reply: ReplyLogps) -> float:
    return round(math.exp(reply.per_token), 6)


def _length_accuracy(lengths: Sequence[tuple[int, int]]) -> float:
    """How often the better of two rules, "the shorter one" and "the longer one", finds the chosen; ties count half."""
    shorter = sum((chosen < rejected) + 0.5 * (chosen == rejected) for chosen, rejected in lengths) / len(lengths)
    return max(shorter, 1.0 - shorter)
