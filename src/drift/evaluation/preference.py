"""Preference accuracy on held-out complaints: how often is the fresh reply likelier than the disliked one?

The pairs are fixed: y- is what the user disliked, y+ was sampled once, guided, from the warm start. Log-probs are
compared per token, so that the length of a reply does not decide.
"""

import math
from collections.abc import Sequence

import numpy as np

from drift.evaluation.results import PairResult, PreferenceResult
from drift.policy.logps import reply_logps
from drift.policy.model import Policy
from drift.records import PreferencePair
from drift.statistics import bootstrap_mean


def measure_preference(policy: Policy, pairs: Sequence[PreferencePair], max_length: int) -> PreferenceResult | None:
    """Compare both replies of each pair; None if no pair fits into `max_length`.

    `margin`, `logps_chosen`: nats per reply; the interval is over pairs.
    """
    prompts = [pair.prompt for pair in pairs]
    chosen = reply_logps(policy, prompts, [(pair.chosen[0].content, pair.finish) for pair in pairs], max_length)
    rejected = reply_logps(policy, prompts, [(pair.rejected[0].content, "stop") for pair in pairs], max_length)
    scored = [(pair, c, r) for pair, c, r in zip(pairs, chosen, rejected, strict=True) if c and r]
    if not scored:
        return None
    each = tuple(
        PairResult(
            prompt_id=pair.prompt_id,
            right=c.per_token > r.per_token,
            margin=round(c.total - r.total, 4),
            likelihood=round(math.exp(c.per_token), 6),
        )
        for pair, c, r in scored
    )
    interval = bootstrap_mean([float(result.right) for result in each])
    return PreferenceResult(
        accuracy=interval.value,
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        margin=float(np.mean([c.total - r.total for _, c, r in scored])),
        logps_chosen=float(np.mean([c.total for _, c, _ in scored])),
        pairs=len(scored),
        each=each,
    )
