"""Log-probabilities of fixed weights: computed once, before training, so that no second model stays in memory."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from drift.policy.model import Policy
from drift.training.batch import StepCollator, summed_logps
from drift.training.tokens import TokenPair


def with_reference(policy: Policy, pairs: Sequence[TokenPair], batch_size: int, dtype: torch.dtype) -> list[TokenPair]:
    """The pairs with this policy's log-probabilities as their reference, in the same order."""
    chosen, rejected = _logps(policy, pairs, batch_size, dtype)
    return [
        replace(pair, ref_chosen_logps=float(chosen[row]), ref_rejected_logps=float(rejected[row]))
        for row, pair in enumerate(pairs)
    ]


@torch.no_grad()
def _logps(
    policy: Policy, pairs: Sequence[TokenPair], batch_size: int, dtype: torch.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """float32 [N] each, in the order of the pairs; like lengths are computed together."""
    policy.model.eval()
    collate = StepCollator(pad_id(policy))
    scores = np.empty((2, len(pairs)), dtype=np.float32)
    order = sorted(range(len(pairs)), key=lambda row: -pairs[row].length)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        (batch,) = collate([pairs[row] for row in rows])
        logps = summed_logps(policy.model, batch.to(policy.device), dtype)
        scores[:, rows] = torch.stack(logps).float().cpu().numpy()
    return scores[0], scores[1]


def pad_id(policy: Policy) -> int:
    """Any id will do, since padding is masked everywhere; the tokenizer's own reads best in a debugger."""
    found = policy.tokenizer.pad_token_id
    return found if isinstance(found, int) else 0
