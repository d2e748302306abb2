"""Pairs to tensors: an optimizer step becomes micro-batches that add up to it exactly, however they are grouped."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from drift.training.loss import PairTensors, token_logps
from drift.training.tokens import TokenPair


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """P pairs, right-padded: rows 0..P-1 are prompt + chosen, rows P..2P-1 prompt + rejected.

    input_ids, attention_mask, position_ids: int64 [2P, L]; completion_mask: bool [2P, L], true at completion tokens.
    The rest, float32 [P], is what the loss needs to know of a pair besides its log-probs: see `PairTensors`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    completion_mask: Tensor
    ref_chosen_logps: Tensor
    ref_rejected_logps: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    noise: Tensor
    weights: Tensor
    token_weights: Tensor

    def with_logps(self, chosen: Tensor, rejected: Tensor) -> PairTensors:
        """What the loss takes, from the policy's summed log-probs: float32 [P] each, nats."""
        return PairTensors(
            chosen,
            rejected,
            self.ref_chosen_logps,
            self.ref_rejected_logps,
            self.chosen_tokens,
            self.rejected_tokens,
            self.noise,
            self.weights,
            self.token_weights,
        )

    def to(self, device: torch.device) -> "PairBatch":
        return PairBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class StepCollator:
    """The pairs of one optimizer step to micro-batches of at most `micro_batch_size` pairs (None: all at once)."""

    pad_token_id: int
    micro_batch_size: int | None = None

    def __call__(self, pairs: Sequence[TokenPair]) -> list[PairBatch]:
        """Longest first, like lengths together: less padding, and memory that runs out does so at once."""
        total = sum(pair.weight for pair in pairs) or 1.0
        tokens = sum(pair.weight * len(pair.chosen) for pair in pairs) or 1.0
        ordered = sorted(pairs, key=lambda pair: -pair.length)
        size = self.micro_batch_size or len(ordered)
        groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        return [self._batch(group, total, tokens) for group in groups]

    def _batch(self, pairs: Sequence[TokenPair], total_weight: float, total_tokens: float) -> PairBatch:
        rows = [(pair.prompt, pair.chosen) for pair in pairs] + [(pair.prompt, pair.rejected) for pair in pairs]
        shape = (len(rows), max(pair.length for pair in pairs))
        input_ids = torch.full(shape, self.pad_token_id)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        completion_mask = torch.zeros(shape, dtype=torch.bool)
        for row, (prompt, completion) in enumerate(rows):
            length = len(prompt) + len(completion)
            input_ids[row, :length] = torch.tensor([*prompt, *completion])
            attention_mask[row, :length] = 1
            completion_mask[row, len(prompt) : length] = True
        return PairBatch(
            input_ids,
            attention_mask,
            (attention_mask.cumsum(-1) - 1).clamp(min=0),
            completion_mask,
            torch.tensor([pair.ref_chosen_logps for pair in pairs]),
            torch.tensor([pair.ref_rejected_logps for pair in pairs]),
            torch.tensor([float(len(pair.chosen)) for pair in pairs]),
            torch.tensor([float(len(pair.rejected)) for pair in pairs]),
            torch.tensor([pair.noise for pair in pairs]),
            torch.tensor([pair.weight / total_weight for pair in pairs]),
            torch.tensor([pair.weight / total_tokens for pair in pairs]),
        )


def per_token_logps(model: torch.nn.Module, batch: PairBatch, dtype: torch.dtype) -> Tensor:
    """Log-probability of every completion token: float32 [2P, K], nats, 0 where there is none.

    K covers the positions that predict a completion token of any row; the head is not run before them. The forward runs
    in `dtype`. Policy and reference both come through here, so that they are the identical computation; another layout
    of the same pairs (a prompt shared by its two completions) would take this function's place.
    """
    width = batch.input_ids.shape[1]
    first = int(batch.completion_mask.int().argmax(-1).min())
    kept = width - first + 1  # the position before the first completion token predicts it
    with torch.autocast(batch.input_ids.device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=kept,
        ).logits
    return token_logps(logits[:, :-1], batch.input_ids[:, first:], batch.completion_mask[:, first:])


def summed_logps(model: torch.nn.Module, batch: PairBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities of the chosen and of the rejected: float32 [P] each, nats."""
    chosen, rejected = per_token_logps(model, batch, dtype).sum(-1).chunk(2)
    return chosen, rejected
