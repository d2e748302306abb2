"""The loss: tensors and scalars in, tensors out. It knows no config, no model and no device."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class PairLoss(NamedTuple):
    """`loss`: scalar to minimise. The rest, float32 [P], one value per pair, carry no gradient.

    `sigmoid_terms`: -log sigmoid(s) in nats. `chosen_rewards`, `rejected_rewards`: beta times the log-ratio.
    """

    loss: Tensor
    sigmoid_terms: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


def token_logps(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each target where `mask` is true, 0 elsewhere: float32 [B, T], nats.

    logits: [B, T, V], of any float type; the log-softmax is float32, as sums of bfloat16 ones are off by 4e-3 and more.
    targets: int64 [B, T]; mask: bool [B, T].
    """
    found = -F.cross_entropy(logits[mask].float(), targets[mask], reduction="none")
    return found.new_zeros(mask.shape).masked_scatter(mask, found)


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    beta: float,
    weights: Tensor,
    rpo_alpha: float = 0.0,
    token_weights: Tensor | None = None,
) -> PairLoss:
    """DPO with the RPO term (DRIFT eq. 1): sum of w_p * -log sigmoid(s_p), plus rpo_alpha times the chosen's NLL.

    logps: float32 [P], nats, summed over the completion. s = beta * (log-ratio of the chosen - that of the rejected).
    weights: float32 [P], summing to 1 over the optimizer step, so that micro-batches add up to the step's mean.
    token_weights: float32 [P], the weight of each of a pair's chosen tokens. With w_p / (sum of w_q * T_q over the
    step) the RPO term is the mean NLL per chosen token, as TRL's rpo_alpha (now loss_type "sft") defines it.
    """
    chosen_rewards = beta * (policy_chosen_logps - ref_chosen_logps)
    rejected_rewards = beta * (policy_rejected_logps - ref_rejected_logps)
    terms = -F.logsigmoid(chosen_rewards - rejected_rewards)
    loss = (weights * terms).sum()
    if token_weights is not None:
        loss = loss - rpo_alpha * (token_weights * policy_chosen_logps).sum()
    return PairLoss(loss, terms.detach(), chosen_rewards.detach(), rejected_rewards.detach())
