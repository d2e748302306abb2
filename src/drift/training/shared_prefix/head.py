"""The head: from the last hidden states to log-probs of the targets, with gradients whose sums are float32.

In bfloat16, CUDA keeps them so, and a CPU rounds them once per chunk of rows. Under gradient checkpointing, the logits
would be the largest tensor that a step keeps, so they can be computed again, a few rows at a time.

The model's own forward pass runs as usual, but a hook takes the input of its head and passes it zero rows. A model that
scales or caps its logits after the head is found by the probe and uses its own head.

Shapes: T completion tokens, H hidden width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drift.policy.padded import logit_slopes, logsumexp

HeadChoice = Literal["model", "kept", "again"]
"""Who computes the logits: the model's own head (`model`), or this module, which keeps them for the gradient (`kept`)
or computes them again in the backward pass (`again`)."""

CHUNK_ROWS = {"cpu": 256, "cuda": 1024}
"""About how many rows of hidden states have their float32 logits computed at once, at most one and a half times this;
of bfloat16 logits, twice as many. Few rows need little memory, but then adding up the gradient of the weights takes as
long as its products; so the last chunk is as long as the others."""


def head_logps(
    model: nn.Module, forward: Callable[[], Tensor], targets: Tensor, dtype: torch.dtype, head: HeadChoice
) -> Tensor:
    """Log-probs of the targets, float32 [T], nats, from the hidden states [1, T, H] that `forward` gives the head.

    Logits are computed in `dtype` (float32: in the weights' own type). Raises TypeError if the head is not a plain
    linear layer.
    """
    inner: nn.Module = getattr(model, "module", model)  # with several processes the model is wrapped
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
    logits_dtype = layer.weight.dtype if dtype == torch.float32 else dtype
    return _HeadLogps.apply(  # pyright: ignore[reportReturnType]
        caught[0][0], layer.weight, layer.bias, targets, logits_dtype, head == "kept"
    )


class _HeadLogps(torch.autograd.Function):
    """log p_t = z_t - logsumexp(z) with z = W h + b, as one function of h [T, H], W [V, H] and b [V]."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype, keep: bool
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.to(dtype)
            matrix, shift = weight.to(dtype), None if bias is None else bias.to(dtype)
            logsums, scores, logits = [], [], []
            for rows in _chunks(states):
                chunk = F.linear(states[rows], matrix, shift)
                logsums.append(logsumexp(chunk))
                scores.append(chunk.gather(-1, targets[rows, None]).squeeze(-1).float())
                if keep:
                    logits.append(chunk)
        sums = torch.cat(logsums)
        kept = matrix if keep and not states.is_cuda else None  # on a CPU, new memory for it takes longer than the cast
        ctx.save_for_backward(states, weight, bias, targets, sums, kept, *logits)
        ctx.hidden_dtype = hidden.dtype
        return torch.cat(scores) - sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, targets, sums, matrix, *logits = ctx.saved_tensors
        of_states = torch.empty(states.shape, device=states.device) if ctx.needs_input_grad[0] else None
        of_weight: Tensor | None = None
        of_bias = torch.zeros(len(weight), device=weight.device) if ctx.needs_input_grad[2] else None
        with torch.autocast(states.device.type, enabled=False):
            matrix = weight.to(states.dtype) if matrix is None else matrix
            shift = None if bias is None else bias.to(states.dtype)
            for place, rows in enumerate(_chunks(states)):
                chunk = logits[place] if logits else F.linear(states[rows], matrix, shift)
                slopes = logit_slopes(chunk, sums[rows], targets[rows], gradients[0][rows], torch.empty_like(chunk))
                if of_states is not None:
                    of_states[rows] = _product(slopes, matrix)
                if ctx.needs_input_grad[1]:
                    part = _product(slopes.T, states[rows])
                    of_weight = part.float() if of_weight is None else of_weight.add_(part)
                if of_bias is not None:
                    of_bias += slopes.sum(0, dtype=torch.float32)
        return (
            None if of_states is None else of_states.to(ctx.hidden_dtype),
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(weight.dtype),
            *(None, None, None),
        )


def _product(slopes: Tensor, other: Tensor) -> Tensor:
    """Matrix product, summed in float32. On CUDA the result is float32; on a CPU it has the type of the factors."""
    if slopes.is_cuda and slopes.dtype != torch.float32:
        return torch.mm(slopes, other, out_dtype=torch.float32)
    return slopes @ other


def _chunks(states: Tensor) -> Iterator[slice]:
    about = CHUNK_ROWS.get(states.device.type, CHUNK_ROWS["cuda"]) * 4 // states.element_size()
    size = -(-len(states) // max(1, round(len(states) / about)))
    return (slice(start, start + size) for start in range(0, len(states), size))
