"""How much a completion depends on its batch: not at all in float32; in bfloat16 by rounding, which flips ties.

A random policy is the worst case: its distributions are nearly flat, so many tokens tie.
"""

import pytest

from drift.config import PolicySettings, SamplingSettings
from drift.policy.model import load_policy
from drift.policy.samplers.transformers import generate

PROMPTS = [[1, 30 + n % 40, *range(40, 41 + 2 * (n % 17))] for n in range(48)]
KEYS = [str(n) for n in range(48)]
SAMPLING = SamplingSettings(max_new_tokens=32, temperature=0.7, top_p=0.9, batch_tokens=100_000)


def flips(policy) -> tuple[int, int]:
    """Tokens that came out differently in batches of one and of all, and tokens compared: up to the first such."""
    together = generate(policy, PROMPTS, KEYS, SAMPLING)
    alone = generate(policy, PROMPTS, KEYS, SAMPLING.model_copy(update={"batch_tokens": 1}))
    changed = compared = 0
    for one, other in zip(alone, together, strict=True):
        same = next((n for n, (a, b) in enumerate(zip(one.token_ids, other.token_ids, strict=False)) if a != b), None)
        changed += same is not None
        compared += len(one.token_ids) if same is None else same + 1
    return changed, compared


@pytest.mark.parametrize(("dtype", "at_most"), [("float32", 0.0), ("bfloat16", 0.1)])
def test_share_of_tokens_that_another_batch_changes(tiny_policy, dtype, at_most):
    changed, compared = flips(load_policy(tiny_policy, PolicySettings(dtype=dtype)))
    assert compared > 500
    assert changed <= at_most * compared, f"{changed} of {compared} tokens changed"
