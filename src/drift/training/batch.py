"""Pairs to tensors: an optimizer step becomes micro-batches that add up to it exactly, however they are grouped."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from drift.config import TrainerSettings
from drift.policy.padded import PaddedRows, padded_logps
from drift.training.loss import PairLoss, PairTensors, preference_loss
from drift.training.shared_prefix import Head, PackedRow, packed_logps
from drift.training.tokens import TokenPair


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """P pairs of one micro-batch.

    `rows`: one packed row, or padded rows of which 2p is the pair's chosen and 2p + 1 its rejected. `history`: float32
    [P, 2, 2], summed log-probs under the policies at the iteration's start and the warm start, chosen and rejected. The
    rest, float32 [P], is what the loss needs to know of a pair besides its log-probs: see `PairTensors`.
    """

    rows: PackedRow | PaddedRows
    ref_chosen_logps: Tensor
    ref_rejected_logps: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    noise: Tensor
    weights: Tensor
    token_weights: Tensor
    history: Tensor

    def with_logps(self, logps: Tensor) -> PairTensors:
        """What the loss takes, from the policy's summed log-probs: float32 [P, 2], chosen and rejected, nats."""
        rest = (getattr(self, field.name) for field in fields(self) if field.name not in ("rows", "history"))
        return PairTensors(logps[:, 0], logps[:, 1], *rest)

    def to(self, device: torch.device) -> "PairBatch":
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True, slots=True)
class StepCollator:
    """The pairs of one optimizer step to micro-batches of at most `micro_batch_tokens` tokens each, padding included.

    `shared`: packed rows, for a model that computes them exactly; `head`: see there. A pair that is longer by
    itself is a micro-batch. `processes`: how many share the micro-batches; there is one for each at least, if there
    are pairs enough.
    """

    pad_token_id: int
    micro_batch_tokens: int
    shared: bool
    head: Head = "model"
    processes: int = 1

    def __call__(self, pairs: Sequence[TokenPair]) -> list[PairBatch]:
        total = sum(pair.weight for pair in pairs) or 1.0
        tokens = sum(pair.weight * len(pair.chosen) for pair in pairs) or 1.0
        return [self._batch([pairs[place] for place in group], total, tokens) for group in self.groups(pairs)]

    def groups(self, pairs: Sequence[TokenPair]) -> list[list[int]]:
        """Places of the pairs of each micro-batch. Longest first, like lengths together: less padding, and memory that
        runs out does so at once."""
        groups: list[list[int]] = []
        budget = self.micro_batch_tokens
        if self.processes > 1:
            budget = min(budget, -(-self._tokens(pairs) // self.processes))
        for place in sorted(range(len(pairs)), key=lambda place: -pairs[place].length):
            if groups and self._tokens([pairs[other] for other in (*groups[-1], place)]) <= budget:
                groups[-1].append(place)
            else:
                groups.append([place])
        return groups

    def _tokens(self, pairs: Sequence[TokenPair]) -> int:
        if self.shared:
            return sum(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
        return 2 * len(pairs) * max(pair.length for pair in pairs)

    def _batch(self, pairs: Sequence[TokenPair], total_weight: float, total_tokens: float) -> PairBatch:
        sequences = [(pair.prompt, reply) for pair in pairs for reply in (pair.chosen, pair.rejected)]
        return PairBatch(
            PackedRow.of(pairs, self.head) if self.shared else PaddedRows.of(sequences, self.pad_token_id),
            torch.tensor([pair.ref_chosen_logps for pair in pairs]),
            torch.tensor([pair.ref_rejected_logps for pair in pairs]),
            torch.tensor([float(len(pair.chosen)) for pair in pairs]),
            torch.tensor([float(len(pair.rejected)) for pair in pairs]),
            torch.tensor([pair.noise for pair in pairs]),
            torch.tensor([pair.weight / total_weight for pair in pairs]),
            torch.tensor([pair.weight / total_tokens for pair in pairs]),
            torch.tensor([pair.history for pair in pairs]).view(-1, 2, 2),
        )


def per_token_logps(model: nn.Module, batch: PairBatch, dtype: torch.dtype) -> Tensor:
    """Log-probability of every completion token, chosen and rejected of pair after pair: float32 [T], nats.

    Policy and reference both come through here, so that they are the identical computation.
    """
    rows = batch.rows
    return packed_logps(model, rows, dtype) if isinstance(rows, PackedRow) else padded_logps(model, rows, dtype)


def summed_logps(model: nn.Module, batch: PairBatch, dtype: torch.dtype) -> Tensor:
    """Summed over each completion: float32 [P, 2], chosen and rejected, nats."""
    lengths = torch.stack([batch.chosen_tokens, batch.rejected_tokens], dim=1).flatten().long()
    owner = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    found = per_token_logps(model, batch, dtype).double()  # one rounding per sum, in whatever order it is added up
    return found.new_zeros(len(lengths)).index_add(0, owner, found).float().view(-1, 2)


def loss_of(settings: TrainerSettings, pairs: PairTensors) -> PairLoss:
    """The loss that the settings name."""
    return preference_loss(
        settings.loss, pairs, settings.beta, settings.rpo_alpha, settings.margin, settings.experimental.margin_unit
    )
