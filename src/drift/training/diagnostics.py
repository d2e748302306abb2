"""The quantities of the paper's theory, measured while training: does the signal of the disliked replies last?

grad l = -beta sigma(-s) d with d = grad log pi(y+|x) - grad log pi(y-|x). Lemma 1: if a share p0 of the pairs has
sigma(-s) >= tau, and D is the mean norm of d among these, then the mean norm of a pair's gradient is at least
beta tau p0 D. Both sides are norms PER PAIR, averaged afterwards; the norm of a batch's mean gradient is smaller. So
they are measured on a few fixed pairs, at the start and at the end of an iteration.

After a training, its metrics tell whether it learned anything (`unmoved`) and whether it went too far (`overshot`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

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

LEAST_MOVE = 0.05
"""Nats per pair by which a training should move the margin. In `drift demo`, iterations that moved it by 0.19 and 0.37
nats, each against its own first step, made the policy better."""

MOST_OVERSHOT = 3.0
"""Of the loss `anchored`, as a multiple of an unmoved pair's. In the sandbox's comparison no step came above 1; a
training of SmolLM2-135M that made it worse came to 41 (benchmarks/results/right_replies.json)."""


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


def unmoved(
    rows: Sequence[Mapping[str, float]],
    beta: float,
    learning_rate: float,
    watched: Literal["margins", "chosen"] = "margins",
) -> str:
    """A warning if the pairs' margin (chosen minus rejected log-ratio, in nats) hardly moved; empty if it did. SFT has
    no margin: its chosen log-ratio is watched.

    `rows`: of metrics.jsonl, one per step, measured before its update: what the last update changed is in no row. If
    all updates before it had rate 0 (warm-up), nothing is known. The first step's value is compared with the mean of
    the last quarter's.
    """
    steps = f"{len(rows)} step{'s' if len(rows) > 1 else ''}"
    if not any(row["learning_rate"] for row in rows):
        return f"Warning: {steps} at rate 0, all of it warm-up: set warmup_ratio to 0 or train on more pairs."
    values = [row[f"rewards/{watched}"] / beta for row in rows if f"rewards/{watched}" in row]
    if len(values) < 2 or not any(row["learning_rate"] for row in rows[:-1]):
        return ""
    last = values[-max(1, len(values) // 4) :]
    moved = sum(last) / len(last) - values[0]
    if abs(moved) >= LEAST_MOVE:
        return ""
    what = "the margin" if watched == "margins" else "the log-prob of the replies"
    return (
        f"Warning: {steps} at {learning_rate:g} moved {what} by {moved:.3f} nats, so the policy learned next to "
        "nothing: raise the learning_rate or train on more pairs."
    )


def overshot(rows: Sequence[Mapping[str, float]], settings: TrainerSettings) -> str:
    """A warning if the loss `anchored` spends its steps on pulling replies back to their targets; empty if not.

    `rows`: of metrics.jsonl. A pair that has not moved costs 2 margin^2; with targets per token, its cost is not known.
    """
    if settings.loss != "anchored" or settings.experimental.margin_unit == "token":
        return ""
    unmoved_loss = 2 * settings.margin**2
    worst = max(rows, key=lambda row: row["loss"])
    if worst["loss"] <= MOST_OVERSHOT * unmoved_loss:
        return ""
    return (
        f"Warning: the loss of step {worst['step']:g} is {worst['loss']:.0f}, and {unmoved_loss:g} before anything is "
        "learned: replies were moved far beyond their targets, and pulling them back makes disliked ones likelier. Set "
        "training.loss to anchored_hinge, or lower training.learning_rate."
    )
