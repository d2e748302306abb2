"""The losses: tensors and scalars in, tensors out. They know no config, no model and no device.

Notation, per pair: r+ = log pi(y+|x) - log ref(y+|x) in nats, r- the same for the rejected reply, s = beta (r+ - r-),
T+ and T- the numbers of tokens of the two replies. P is the number of pairs.

To add a loss: a function here that returns one term per pair (float32 [P]), its entry in LOSSES, and its name in
`records.LossName`, from which the config takes the allowed names.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from drift.records import LossName, MarginUnit

NO_KL = torch.tensor(0.0)
"""z0 of every loss but `kto`."""


class PairTensors(NamedTuple):
    """What a loss gets of P pairs, float32 [P] each.

    `chosen`, `rejected`, `ref_chosen`, `ref_rejected`: log-probs summed over the completion, nats, under the policy and
    under the reference. `chosen_tokens`, `rejected_tokens`: T+ and T-. `noise`: the probability, in [0, 0.5), that
    chosen and rejected are swapped.
    A reply that is missing (`sft` and `kto` learn from replies alone) has log-probs of 0 and 0 tokens.
    `weights` sum to 1 over the optimizer step, so that its micro-batches add up to the mean over the step.
    `token_weights` are w_p / (sum over the step of w_q T+_q): they turn a sum of log-probs into the mean per chosen
    token of the step. `kl`: z0 of `kto`, the step's estimate of KL(policy, reference), float32 [], nats, no gradient.
    `distilled`, for `self_distillation`: the sum over the chosen tokens of signal x log pi, float32 [P].
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
    kl: Tensor = NO_KL
    distilled: Tensor = NO_KL

    @property
    def chosen_ratio(self) -> Tensor:
        """r+"""
        return self.chosen - self.ref_chosen

    @property
    def rejected_ratio(self) -> Tensor:
        """r-"""
        return self.rejected - self.ref_rejected


class PairLoss(NamedTuple):
    """`loss`: the scalar to minimise, float32 []. The rest is float32 [P], one value per pair.

    `sigmoid_terms`: -log sigmoid(s) in nats, whatever the loss. `chosen_rewards`, `rejected_rewards`: beta r+, beta r-.
    These three have no gradient: they are for the metrics and the check of the first step.
    """

    loss: Tensor
    sigmoid_terms: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


class LossScalars(NamedTuple):
    """The numbers of a loss. `beta`: per nat. `rpo_alpha`: weight of the chosen reply's NLL per token.

    `margin`: the target of `anchored` and `anchored_hinge`, in nats per sequence or token (`margin_unit`); it is not
    the margin that a scorer gives a pair. `desirable_weight`, `undesirable_weight`: lambda_D and lambda_U of `kto`.
    """

    beta: float
    rpo_alpha: float = 0.0
    margin: float = 3.0
    margin_unit: MarginUnit = "sequence"
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


def preference_loss(name: LossName, pairs: PairTensors, scalars: LossScalars) -> PairLoss:
    """The loss of a micro-batch: the weighted sum of its pairs' terms, plus rpo_alpha times the NLL (DRIFT eq. 1).

    L = sum_p w_p term_p + rpo_alpha * NLL(y+|x). `sft` has no term and is the NLL itself, whatever rpo_alpha;
    `self_distillation` has no NLL, because nobody said that its replies are good.
    """
    terms = LOSSES[name](pairs, scalars)
    nll_weight = {"sft": 1.0, "self_distillation": 0.0}.get(name, scalars.rpo_alpha)
    loss = (pairs.weights * terms).sum() + nll_weight * chosen_nll(pairs)
    chosen_rewards = scalars.beta * pairs.chosen_ratio.detach()
    rejected_rewards = scalars.beta * pairs.rejected_ratio.detach()
    return PairLoss(loss, -F.logsigmoid(chosen_rewards - rejected_rewards), chosen_rewards, rejected_rewards)


def chosen_nll(pairs: PairTensors) -> Tensor:
    """Mean NLL per chosen token over the step: a scalar, nats. The RPO term (arXiv 2404.19733, eq. 2); TRL's "sft"."""
    return -(pairs.token_weights * pairs.chosen).sum()


def sigmoid(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """DPO (Rafailov et al. 2023, eq. 7; DRIFT eq. 1): -log sigmoid(s). float32 [P], as every loss below."""
    return -F.logsigmoid(scalars.beta * (pairs.chosen_ratio - pairs.rejected_ratio))


def sigmoid_norm(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """Length-normalised DPO (Tulu 3, arXiv 2411.15124, eq. 6): -log sigmoid(beta (r+/T+ - r-/T-))."""
    return -F.logsigmoid(
        scalars.beta * (pairs.chosen_ratio / pairs.chosen_tokens - pairs.rejected_ratio / pairs.rejected_tokens)
    )


def ipo(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """IPO (Azar et al. 2023, eq. 17): (r+/T+ - r-/T- - 1/(2 beta))^2, per token as in its authors' code."""
    difference = pairs.chosen_ratio / pairs.chosen_tokens - pairs.rejected_ratio / pairs.rejected_tokens
    return (difference - 1 / (2 * scalars.beta)) ** 2


def robust(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """Robust DPO (Chowdhury et al. 2024, arXiv 2403.00409, eq. 12), with the noise e of each pair.

    ((1 - e) (-log sigmoid(s)) - e (-log sigmoid(-s))) / (1 - 2e). Its expectation over wrong labels is the DPO loss of
    the right ones; with e = 0 it is `sigmoid`.
    """
    s = scalars.beta * (pairs.chosen_ratio - pairs.rejected_ratio)
    return ((pairs.noise - 1) * F.logsigmoid(s) + pairs.noise * F.logsigmoid(-s)) / (1 - 2 * pairs.noise)


def apo_zero(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """APO-zero (D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 7): 1 - sigmoid(beta r+) + sigmoid(beta r-)."""
    return (-scalars.beta * pairs.chosen_ratio).sigmoid() + (scalars.beta * pairs.rejected_ratio).sigmoid()


def anchored(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """The anchored square: (r+ - m)^2 + (r- + m)^2. m is the margin; per `token`, margin times the reply's length.

    Hard SPPO (Wu et al. 2024, arXiv 2405.00675, eq. 4.7 with P = 1; m = 1/(2 beta)) against a fixed reference. Its
    minimum is at r+ = m, r- = -m: a pair that has reached it has no gradient, and one beyond it is pulled back. An
    rpo_alpha above 0 moves the minimum of r+ up by rpo_alpha / (2 T) nats, where T is the step's mean chosen length.
    DEVIATION: the paper's only loss is `sigmoid`. With a rejected reply that stays the same in every iteration its
    gradient never ends, so log pi(y-|x) falls without bound (docs/method.md, "Past the fifth iteration").
    """
    chosen, rejected = _from_targets(pairs, scalars)
    return chosen**2 + rejected**2


def anchored_hinge(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """The anchored square from one side: min(r+ - m, 0)^2 + max(r- + m, 0)^2, a squared hinge for each reply.

    A reply beyond its target has no gradient. `anchored` pulls it back: where long rejected replies resemble each
    other, one step moves all of them by tens of nats, and the next ones make them likelier again (docs/training.md).
    DEVIATION: as `anchored`; unlike that, nothing but the lack of a gradient keeps a reply near its target.
    """
    chosen, rejected = _from_targets(pairs, scalars)
    return chosen.clamp(max=0) ** 2 + rejected.clamp(min=0) ** 2


def _from_targets(pairs: PairTensors, scalars: LossScalars) -> tuple[Tensor, Tensor]:
    """r+ - m and r- + m, nats, float32 [P] each: above 0 where a reply is likelier than its target."""
    per_token = scalars.margin_unit == "token"
    chosen_margin = scalars.margin * pairs.chosen_tokens if per_token else scalars.margin
    rejected_margin = scalars.margin * pairs.rejected_tokens if per_token else scalars.margin
    return pairs.chosen_ratio - chosen_margin, pairs.rejected_ratio + rejected_margin


def sft(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """No preference term: `preference_loss` adds the NLL of the chosen replies, which is all of this loss."""
    return pairs.chosen.new_zeros(len(pairs.chosen))


def kto(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """KTO (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 7 and 8), for replies without a partner.

    lambda_D (1 - sigmoid(beta (r+ - z0))) for a liked reply, lambda_U (1 - sigmoid(beta (z0 - r-))) for a disliked one.
    z0 is how far the policy has moved from the reference in general: a reply counts by how much further it has moved.
    """
    liked = scalars.desirable_weight * (scalars.beta * (pairs.kl - pairs.chosen_ratio)).sigmoid()
    disliked = scalars.undesirable_weight * (scalars.beta * (pairs.rejected_ratio - pairs.kl)).sigmoid()
    return torch.where(pairs.chosen_tokens > 0, liked, disliked)


def self_distillation(pairs: PairTensors, scalars: LossScalars) -> Tensor:
    """Self-distillation from the follow-up (Kleine Buening et al. 2026, arXiv 2603.12273): -1/T sum_t A_t log pi(y_t).

    A_t = log pi(y_t | x, o, y_<t) - log pi(y_t | x, y_<t) under the policy itself, without a gradient, clipped to
    +- `training.signal_clip`: how much likelier the user's next message o makes the token.
    DEVIATION: the authors' script leaves the first two tokens of every reply out.
    """
    return -pairs.distilled / pairs.chosen_tokens


LOSSES: dict[LossName, Callable[[PairTensors, LossScalars], Tensor]] = {
    "sigmoid": sigmoid,
    "sigmoid_norm": sigmoid_norm,
    "ipo": ipo,
    "robust": robust,
    "apo_zero": apo_zero,
    "anchored": anchored,
    "anchored_hinge": anchored_hinge,
    "sft": sft,
    "kto": kto,
    "self_distillation": self_distillation,
}
