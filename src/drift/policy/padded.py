"""Log-probs of completions in right-padded rows: a forward pass that every causal language model supports.

Evaluation uses it, and training where packed rows (a prompt computed once for its two completions) are not exact.

Shapes: B rows of L tokens, T completion tokens in all rows together, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from drift.policy.model import Policy

Sequences = Sequence[tuple[Sequence[int], Sequence[int]]]
"""Pairs of token ids: a prompt, and the completion that follows it."""


@dataclass(frozen=True, slots=True, eq=False)
class PaddedRows:
    """One row per completion that has a token.

    input_ids, attention_mask, position_ids: int64 [B, L]. completion_mask: bool [B, L].
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    completion_mask: Tensor

    @classmethod
    def of(cls, sequences: Sequences, pad_token_id: int) -> "PaddedRows":
        sequences = [(prompt, completion) for prompt, completion in sequences if completion]
        shape = (len(sequences), max(len(prompt) + len(completion) for prompt, completion in sequences))
        input_ids = torch.full(shape, pad_token_id)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        completion_mask = torch.zeros(shape, dtype=torch.bool)
        for row, (prompt, completion) in enumerate(sequences):
            length = len(prompt) + len(completion)
            input_ids[row, :length] = torch.tensor([*prompt, *completion])
            attention_mask[row, :length] = 1
            completion_mask[row, len(prompt) : length] = True
        return cls(input_ids, attention_mask, (attention_mask.cumsum(-1) - 1).clamp(min=0), completion_mask)

    def to(self, device: torch.device) -> "PaddedRows":
        return PaddedRows(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def padded_tokens(self) -> int:
        """Tokens that the model computes, padding included."""
        return self.input_ids.numel()


def pad_id(policy: Policy) -> int:
    """The tokenizer's padding id, or 0 if it has none: padding is masked everywhere, so any id does."""
    declared = policy.tokenizer.pad_token_id
    return declared if isinstance(declared, int) else 0


def padded_logps(model: nn.Module, rows: PaddedRows, dtype: torch.dtype) -> Tensor:
    """Log-prob of every completion token, row after row: float32 [T], nats.

    The forward pass computes in `dtype` (float32: in the weights' own type), and the head only the positions from the
    one that predicts the first completion token.
    """
    width = rows.input_ids.shape[1]
    first = int(rows.completion_mask.int().argmax(-1).min())
    with autocast(rows.input_ids.device, dtype):
        logits = model(
            input_ids=rows.input_ids,
            attention_mask=rows.attention_mask,
            position_ids=rows.position_ids,
            use_cache=False,
            logits_to_keep=width - first + 1,  # the position before the first completion token predicts it
        ).logits
    mask = rows.completion_mask[:, first:]
    return token_logps(logits[:, :-1][mask], rows.input_ids[:, first:][mask])


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-prob of each target: float32 [T], nats, from logits [T, V] of any float type and targets int64 [T].

    The log-softmax is float32, because sums of bfloat16 values are off by 4e-3 and more. Rows are computed in chunks,
    and only the logits are kept for the gradient; plain autograd would keep two more copies in float32.
    """
    return _TokenLogps.apply(logits, targets)  # pyright: ignore[reportReturnType]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


@contextmanager
def products_of_bfloat16() -> Iterator[None]:
    """Within it, oneDNN rounds the factors of float32 matrix products to bfloat16, and sums and returns float32.

    Where a processor has instructions for it, that is more than twice as fast; elsewhere nothing is rounded.
    """
    matmul = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def scaled_scores(queries: Tensor, keys: Tensor, scaling: float) -> Tensor:
    """`scaling` x queries [N, Q, D] times keys [N, L, D]: [N, Q, L], in one product."""
    return torch.baddbmm(queries.new_empty(()), queries, keys.transpose(1, 2), beta=0, alpha=scaling)


def logsumexp(logits: Tensor) -> Tensor:
    """log sum exp of each row: float32 [T], from logits [T, V] of any float type."""
    sums = torch.empty(len(logits), device=logits.device)
    for rows, chunk in _in_float32(logits):
        peak = chunk.amax(-1)
        sums[rows] = chunk.sub_(peak[:, None]).exp_().sum(-1).log_().add_(peak)
    return sums


def logit_slopes(
    logits: Tensor, logsums: Tensor, targets: Tensor, gradient: Tensor, out: Tensor | None = None
) -> Tensor:
    """The gradient of the logits [T, V] from that of the targets' log-probs [T]: float32, or the type of `out`.

    d log p_t / d z_j = 1[j = t] - p_j.
    """
    slopes = torch.empty(logits.shape, device=logits.device) if out is None else out
    for rows, chunk in _in_float32(logits):
        scale = gradient[rows, None]
        chunk.sub_(logsums[rows, None]).exp_().mul_(-scale)
        slopes[rows] = chunk.scatter_add_(-1, targets[rows, None], scale)
    return slopes


class _TokenLogps(torch.autograd.Function):
    """log p_t = z_t - logsumexp(z)."""

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor) -> Tensor:
        logsums = logsumexp(logits)
        ctx.save_for_backward(logits, targets, logsums)
        return logits.gather(-1, targets[:, None]).squeeze(-1).float() - logsums

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, targets, logsums = ctx.saved_tensors
        return logit_slopes(logits, logsums, targets, gradients[0], torch.empty_like(logits)), None


def _in_float32(logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of rows, each with a copy of its logits that replaces the one before.

    On a CPU, new memory for each would take longer than the arithmetic.
    """
    size = _rows(logits)
    buffer = torch.empty(min(size, len(logits)), logits.shape[-1], device=logits.device)
    for start in range(0, len(logits), size):
        chunk = logits[start : start + size]
        yield slice(start, start + size), buffer[: len(chunk)].copy_(chunk)


def _rows(logits: Tensor) -> int:
    """The rows of a chunk: as many as fit into a CPU's cache, or fill a GPU, in float32."""
    megabytes = 2 if logits.device.type == "cpu" else 256
    return max(1, megabytes * 2**18 // logits.shape[-1])
