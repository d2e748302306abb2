"""The losses: tensors and scalars in, tensors out. They know no config, no model and no device.

Throughout, r+ = log pi(y+|x) - log ref(y+|x), r- the same of the rejected, s = beta (r+ - r-), T+ and T- the lengths.
"""

from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

Loss = Literal["sigmoid", "sigmoid_norm", "ipo", "robust", "apo_zero", "anchored", "sft"]
MarginUnit = Literal["sequence", "token"]


class PairTensors(NamedTuple):
    """What a loss sees of P pairs, float32 [P] each.

    `chosen` .. `ref_rejected`: nats, summed over the completion. `chosen_tokens`, `rejected_tokens`: T+ and T-.
    `noise`: the probability in [0, 0.5) that the pair is the wrong way round.
    `weights` sum to 1 over the optimizer step, so that micro-batches add up to the step's mean; `token_weights` are
    w_p / (sum of w_q T+_q over the step), which makes a sum over chosen tokens the step's mean per chosen token.
    """

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    noise: Tensor
    weights: Tensor
    token_weights: Tensor

    @property
    def chosen_ratio(self) -> Tensor:
        """r+"""
        return self.chosen - self.ref_chosen

    @property
    def rejected_ratio(self) -> Tensor:
        """r-"""
        return self.rejected - self.ref_rejected


class PairLoss(NamedTuple):
    """`loss`: scalar to minimise. The rest, float32 [P], one value per pair, carry no gradient.

    `sigmoid_terms`: -log sigmoid(s) in nats, whatever the loss. `chosen_rewards`, `rejected_rewards`: beta r+, beta r-.
    """

    loss: Tensor
    sigmoid_terms: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


def preference_loss(
    loss: Loss, pairs: PairTensors, beta: float, rpo_alpha: float, margin: float, margin_unit: MarginUnit
) -> PairLoss:
    """The weighted sum of a loss's terms, plus rpo_alpha times the chosen's NLL per token (DRIFT eq. 1).

    `margin` and `margin_unit` are the anchored loss's target, not the margin that a scorer gave a pair; SFT is the NLL
    itself and so takes no rpo_alpha.
    """
    if loss == "sft":
        total = sft(pairs)
    else:
        terms = anchored(pairs, margin, margin_unit) if loss == "anchored" else _BY_BETA[loss](pairs, beta)
        total = (pairs.weights * terms).sum() + rpo_alpha * sft(pairs)
    chosen_rewards = beta * pairs.chosen_ratio.detach()
    rejected_rewards = beta * pairs.rejected_ratio.detach()
    return PairLoss(total, -F.logsigmoid(chosen_rewards - rejected_rewards), chosen_rewards, rejected_rewards)


def sigmoid(pairs: PairTensors, beta: float) -> Tensor:
    """DPO (Rafailov et al. 2023, eq. 7): -log sigmoid(s). float32 [P], as every loss below but `sft`."""
    return -F.logsigmoid(beta * (pairs.chosen_ratio - pairs.rejected_ratio))


def sigmoid_norm(pairs: PairTensors, beta: float) -> Tensor:
    """Length-normalised DPO (Tulu 3, arXiv 2411.15124, eq. 6): -log sigmoid(beta (r+/T+ - r-/T-))."""
    return -F.logsigmoid(
        beta * (pairs.chosen_ratio / pairs.chosen_tokens - pairs.rejected_ratio / pairs.rejected_tokens)
    )


def ipo(pairs: PairTensors, beta: float) -> Tensor:
    """IPO (Azar et al. 2023, eq. 17): (r+/T+ - r-/T- - 1/(2 beta))^2, per token as its authors ran it."""
    difference = pairs.chosen_ratio / pairs.chosen_tokens - pairs.rejected_ratio / pairs.rejected_tokens
    return (difference - 1 / (2 * beta)) ** 2


def robust(pairs: PairTensors, beta: float) -> Tensor:
    """Robust DPO (Chowdhury et al. 2024, arXiv 2403.00409, eq. 12), with each pair's own noise e.

    ((1 - e) (-log sigmoid(s)) - e (-log sigmoid(-s))) / (1 - 2e): in expectation over wrong labels it is the loss of
    the right ones. e = 0 is `sigmoid`.
    """
    s = beta * (pairs.chosen_ratio - pairs.rejected_ratio)
    return ((pairs.noise - 1) * F.logsigmoid(s) + pairs.noise * F.logsigmoid(-s)) / (1 - 2 * pairs.noise)


def apo_zero(pairs: PairTensors, beta: float) -> Tensor:
    """APO-zero (D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 7): 1 - sigmoid(beta r+) + sigmoid(beta r-)."""
    return (-beta * pairs.chosen_ratio).sigmoid() + (beta * pairs.rejected_ratio).sigmoid()


def anchored(pairs: PairTensors, margin: float, margin_unit: MarginUnit) -> Tensor:
    """The anchored square: (r+ - m)^2 + (r- + m)^2, where m is the margin, per `token` times the completion's length.

    Hard SPPO (Wu et al. 2024, arXiv 2405.00675, eq. 4.7 with P = 1; m = 1/(2 beta)) against a reference that stays: by
    itself it rests at r+ = m, r- = -m, so a spent pair has no gradient and an overshoot is pulled back. With an
    rpo_alpha above 0, r+ rests rpo_alpha / (2 T) nats higher, where T is the mean length of the step's chosen replies.
    """
    chosen_margin = margin * pairs.chosen_tokens if margin_unit == "token" else margin
    rejected_margin = margin * pairs.rejected_tokens if margin_unit == "token" else margin
    return (pairs.chosen_ratio - chosen_margin) ** 2 + (pairs.rejected_ratio + rejected_margin) ** 2


def sft(pairs: PairTensors) -> Tensor:
    """Mean NLL per chosen token over the step: a scalar, nats. TRL's "sft"; the RPO term (arXiv 2404.19733, eq. 2)."""
    return -(pairs.token_weights * pairs.chosen).sum()


_BY_BETA = {"sigmoid": sigmoid, "sigmoid_norm": sigmoid_norm, "ipo": ipo, "robust": robust, "apo_zero": apo_zero}
