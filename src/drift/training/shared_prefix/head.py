"""The head: from the last hidden states to log-probs of the targets, with gradients that are added up in float32.

A linear layer under autocast hands its gradients on in bfloat16, those of its weights and those of the hidden states
that every layer below builds upon; here they are float32 from the start. Under gradient checkpointing the logits would
be the largest thing that a step keeps, so they can be computed again, a few rows at a time.

The model's own forward runs as always, but its head is handed no rows; it keeps what it was about to be given. A model
that does more to its logits than its head (scales or caps them) is told apart by the probe and uses its head itself.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drift.policy.padded import logit_slopes, logsumexp

Head = Literal["model", "kept", "again"]
"""Who computes the logits: the model's own head, or this module, which keeps them for the gradient or does so again."""

CHUNK = {"cpu": 256, "cuda": 2048}
"""Rows that are multiplied at once: their logits are there in float32."""


def head_logps(
    model: nn.Module, forward: Callable[[], Tensor], targets: Tensor, dtype: torch.dtype, head: Head
) -> Tensor:
    """Log-probs of the targets, float32 [T], from the hidden states that `forward` would give its head: [1, T, H].

    Logits are computed in `dtype` (float32: in the weights' own type). Raises TypeError for a head that is no plain
    linear layer.
    """
    inner: nn.Module = getattr(model, "module", model)  # several processes wrap the model
    layer: nn.Module = inner.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    if type(layer) is not nn.Linear:
        raise TypeError(f"its head is a {type(layer).__name__}")
    caught: list[Tensor] = []

    def hand_over(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        caught.append(inputs[0])
        return (inputs[0][:, :0], *inputs[1:])

    handle = layer.register_forward_pre_hook(hand_over)
    try:
        forward()
    finally:
        handle.remove()
    given = (layer.weight.dtype if dtype == torch.float32 else dtype, head == "kept")
    return _HeadLogps.apply(caught[0][0], layer.weight, layer.bias, targets, *given)  # pyright: ignore


class _HeadLogps(torch.autograd.Function):
    """log p_t = z_t - logsumexp(z) with z = W h + b, as one function of h, W and b."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype, keep: bool
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.to(dtype)
            logits = torch.empty(len(states), len(weight), dtype=dtype, device=states.device) if keep else None
            matrix, shift = weight.to(dtype), None if bias is None else bias.to(dtype)
            logsums, scores = [], []
            for rows in _chunks(states):
                chunk = F.linear(states[rows], matrix, shift)
                logsums.append(logsumexp(chunk))
                scores.append(chunk.gather(-1, targets[rows, None]).squeeze(-1).float())
                if logits is not None:
                    logits[rows] = chunk
        sums = torch.cat(logsums)
        ctx.save_for_backward(states, weight, bias, targets, sums, logits)
        ctx.of = hidden.dtype
        return torch.cat(scores) - sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, targets, sums, logits = ctx.saved_tensors
        of_states = torch.empty(states.shape, device=states.device) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros(weight.shape, device=weight.device) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros(len(weight), device=weight.device) if ctx.needs_input_grad[2] else None
        with torch.autocast(states.device.type, enabled=False):
            matrix, shift = weight.to(states.dtype), None if bias is None else bias.to(states.dtype)
            exact = matrix if states.is_cuda else weight.float()
            for rows in _chunks(states):
                chunk = F.linear(states[rows], matrix, shift) if logits is None else logits[rows]
                slopes = logit_slopes(chunk, sums[rows], targets[rows], gradients[0][rows])
                if of_states is not None:
                    of_states[rows] = _product(slopes, exact)
                if of_weight is not None:
                    of_weight += _product(slopes.T, states[rows])
                if of_bias is not None:
                    of_bias += slopes.sum(0)
        return (
            None if of_states is None else of_states.to(ctx.of),
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(weight.dtype),
            *(None, None, None),
        )


def _product(slopes: Tensor, other: Tensor) -> Tensor:
    """float32, from float32 slopes: on CUDA by way of the other's type, whose products its units add up in float32."""
    if slopes.is_cuda and other.dtype != torch.float32:
        return torch.mm(slopes.to(other.dtype), other, out_dtype=torch.float32)
    return slopes @ other.float()


def _chunks(states: Tensor) -> Iterator[slice]:
    size = CHUNK.get(states.device.type, CHUNK["cuda"])
    return (slice(start, start + size) for start in range(0, len(states), size))
