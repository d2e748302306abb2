"""The quantities of the paper's theory, measured while training: does the signal of the disliked replies last?

grad l = -beta sigma(-s) d with d = grad log pi(y+|x) - grad log pi(y-|x). Lemma 1: if a share p0 of the pairs has
sigma(-s) >= tau, and D is the mean norm of d among these, then the mean norm of a pair's gradient is at least
beta tau p0 D. Both sides are norms PER PAIR, averaged afterwards; the norm of a batch's mean gradient is smaller. So
they are measured on a few fixed pairs, at the start and at the end of an iteration.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from drift.config import TrainerSettings
from drift.training.batch import PairBatch, StepCollator, loss_of, summed_logps
from drift.training.loss import PairLoss
from drift.training.tokens import TokenPair

LEMMA_1_TAU = 0.25
"""A probability, sigma(-s). At the reference sigma(-s) is 1/2 and it falls as a pair is learned: half of that start."""

FIXED_PAIRS = 16
"""Pairs whose gradients are measured one by one: two more backward passes each, twice per iteration."""


def step_diagnostics(
    losses: Sequence[PairLoss], batches: Sequence[PairBatch], logps: Sequence[Tensor], tau: float
) -> dict[str, float]:
    """Means over the step's pairs: sigma(-s), the share with sigma(-s) >= tau, and how far log p has moved, in nats.

    `logps`: the policy's sums, float32 [P, 2] of each batch.
    """
    sigma = 1 - torch.exp(-torch.cat([loss.sigmoid_terms for loss in losses]))  # sigma(-s) = 1 - exp(log sigma(s))
    # mean over the pairs, log p now minus log p then: [iteration's start, warm start] x [chosen, rejected]
    moved = torch.cat([now[:, None] - batch.history for now, batch in zip(logps, batches, strict=True)]).mean(0)
    return {
        "sigma/mean": sigma.mean().item(),
        "sigma/above_tau": (sigma >= tau).float().mean().item(),
        "logps/chosen_since_iteration": moved[0, 0].item(),
        "logps/rejected_since_iteration": moved[0, 1].item(),
        "logps/chosen_since_warm_start": moved[1, 0].item(),
        "logps/rejected_since_warm_start": moved[1, 1].item(),
    }


@dataclass(frozen=True, slots=True)
class PairGradient:
    """One pair: sigma(-s), the norm of the loss's gradient, and the norm of d."""

    sigma: float
    gradient: float
    difference: float


def lemma_1(gradients: Sequence[PairGradient], beta: float, tau: float) -> dict[str, float]:
    """Both sides of Lemma 1 over the pairs, under the names of metrics.jsonl. The bound is for the sigmoid loss."""
    above = [pair for pair in gradients if pair.sigma >= tau]
    p0 = len(above) / len(gradients)
    difference_norm = sum(pair.difference for pair in above) / len(above) if above else 0.0
    return {
        "lemma_1/pairs": len(gradients),
        "lemma_1/gradient_norm": sum(pair.gradient for pair in gradients) / len(gradients),
        "lemma_1/bound": beta * tau * p0 * difference_norm,
        "lemma_1/p0": p0,
        "lemma_1/difference_norm": difference_norm,
    }


def pair_gradients(
    model: nn.Module, pairs: Sequence[TokenPair], collate: StepCollator, settings: TrainerSettings, dtype: torch.dtype
) -> list[PairGradient]:
    """The gradients of each pair by itself, with weight 1; leaves the model without a gradient."""
    model.train()
    device = next(model.parameters()).device
    return [_pair_gradient(model, collate([pair])[0].to(device), settings, dtype) for pair in pairs]


def _pair_gradient(model: nn.Module, batch: PairBatch, settings: TrainerSettings, dtype: torch.dtype) -> PairGradient:
    loss = loss_of(settings, batch.with_logps(summed_logps(model, batch, dtype)))
    gradient = _gradient_norm(model, loss.loss)
    # forward once more: after a backward pass, sharded weights are freed
    logps = summed_logps(model, batch, dtype)
    difference = _gradient_norm(model, logps[0, 0] - logps[0, 1])
    return PairGradient(1 - float(torch.exp(-loss.sigmoid_terms[0])), gradient, difference)


def _gradient_norm(model: nn.Module, value: Tensor) -> float:
    model.zero_grad()
    value.backward()
    norm = nn.utils.get_total_norm([weight.grad.float() for weight in model.parameters() if weight.grad is not None])
    model.zero_grad()
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)  # sharded: each process has a part of it
