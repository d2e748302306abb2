"""Pairs to tensors: an optimizer step as micro-batches, whose losses add up to the step's however pairs are grouped."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from drift.config import TrainerSettings
from drift.policy.padded import PaddedRows, padded_logps
from drift.training.loss import NO_KL, LossScalars, PairLoss, PairTensors, preference_loss
from drift.training.shared_prefix import HeadChoice, PackedRow, packed_logps
from drift.training.tokens import TokenPair


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """P pairs of one micro-batch.

    `rows`: one packed row; or padded rows, of which 2p is the chosen of pair p and 2p + 1 its rejected.
    `ref_chosen_logps` .. `token_weights`: float32 [P], what the loss needs besides the policy's log-probs, see
    `PairTensors`. `history`: float32 [P, 2, 2], nats, summed log-probs of [chosen, rejected] under [the policy at the
    iteration's start, the warm start]; NaN unless `training.diagnostics` is on.
    `mismatched`: for `kto`. `kl`: see `PairTensors`. `informed`, for `self_distillation`: the same replies after the
    prompts with the follow-up. `counted`: false for a batch that only keeps this process busy (`without_weight`).
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
    mismatched: "MismatchedReplies | None" = None
    kl: Tensor = NO_KL
    informed: PackedRow | PaddedRows | None = None
    counted: bool = True

    def with_logps(self, logps: Tensor, distilled: Tensor = NO_KL) -> PairTensors:
        """The loss's input. `logps`: float32 [P, 2], nats, the policy's sums over chosen and rejected."""
        return PairTensors(
            chosen=logps[:, 0],
            rejected=logps[:, 1],
            ref_chosen=self.ref_chosen_logps,
            ref_rejected=self.ref_rejected_logps,
            chosen_tokens=self.chosen_tokens,
            rejected_tokens=self.rejected_tokens,
            noise=self.noise,
            weights=self.weights,
            token_weights=self.token_weights,
            kl=self.kl,
            distilled=distilled,
        )

    def to(self, device: torch.device) -> "PairBatch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in values.items() if hasattr(value, "to")})

    def without_weight(self) -> "PairBatch":
        """The same computation with no share in the loss."""
        zeros = torch.zeros_like(self.weights)
        return replace(self, weights=zeros, token_weights=zeros, counted=False)


@dataclass(frozen=True, slots=True, eq=False)
class MismatchedReplies:
    """The prompts of a micro-batch, each with another row's reply. `tokens`, `ref_logps` (sums, nats): float32 [P]."""

    rows: PackedRow | PaddedRows
    tokens: Tensor
    ref_logps: Tensor

    def to(self, device: torch.device) -> "MismatchedReplies":
        return MismatchedReplies(self.rows.to(device), self.tokens.to(device), self.ref_logps.to(device))


@dataclass(frozen=True, slots=True)
class StepCollator:
    """The pairs of one optimizer step to micro-batches of at most `micro_batch_tokens` tokens each, padding included.

    A pair that is longer by itself is a micro-batch. `shared`: packed rows, for a model that computes them exactly;
    `head`: who computes the logits (`HeadChoice`). `processes`: the number of processes that share the micro-batches; a
    step has at least one micro-batch for each of them, if it has enough pairs. Only those of number `process` are made.
    """

    pad_token_id: int
    micro_batch_tokens: int
    shared: bool
    head: HeadChoice = "model"
    processes: int = 1
    process: int = 0

    def __call__(self, pairs: Sequence[TokenPair]) -> list[PairBatch]:
        """This process's micro-batches of the step.

        All processes must make the same number of passes, so one that has fewer gets a batch of weight 0 at the end.
        """
        # weights are shares of the whole step, so the sum over its micro-batches is the step's mean
        total_weight = sum(pair.weight for pair in pairs) or 1.0
        total_tokens = sum(pair.weight * len(pair.chosen) for pair in pairs) or 1.0
        groups = self.groups(pairs)
        own = [
            self._batch([pairs[index] for index in group], total_weight, total_tokens)
            for group in groups[self.process :: self.processes]
        ]
        if len(own) < -(-len(groups) // self.processes):
            shortest = [pairs[index] for index in groups[-1]]
            own.append(self._batch(shortest, total_weight, total_tokens).without_weight())
        return own

    def groups(self, pairs: Sequence[TokenPair]) -> list[list[int]]:
        """Indices of the pairs of each micro-batch, longest pairs first.

        Pairs of similar length share a micro-batch, so there is less padding; and if the memory is too small, it runs
        out in the first micro-batch.
        """
        budget = self.micro_batch_tokens
        if self.processes > 1:
            budget = min(budget, -(-self._tokens(pairs) // self.processes))
        groups: list[list[int]] = []
        for index in sorted(range(len(pairs)), key=lambda index: -pairs[index].length):
            if groups and self._tokens([pairs[member] for member in (*groups[-1], index)]) <= budget:
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def _tokens(self, pairs: Sequence[TokenPair]) -> int:
        """What the model computes for these pairs in one micro-batch."""
        if self.shared:
            own = sum(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
            mismatched = sum(len(pair.prompt) + len(pair.mismatched) for pair in pairs)
            return max(own, mismatched, sum(len(pair.informed) + len(pair.chosen) for pair in pairs))
        return 2 * len(pairs) * max(pair.length for pair in pairs)

    def _batch(self, pairs: Sequence[TokenPair], total_weight: float, total_tokens: float) -> PairBatch:
        return PairBatch(
            rows=self._rows(pairs, self.head),
            ref_chosen_logps=torch.tensor([pair.ref_chosen_logps for pair in pairs]),
            ref_rejected_logps=torch.tensor([pair.ref_rejected_logps for pair in pairs]),
            chosen_tokens=torch.tensor([float(len(pair.chosen)) for pair in pairs]),
            rejected_tokens=torch.tensor([float(len(pair.rejected)) for pair in pairs]),
            noise=torch.tensor([pair.noise for pair in pairs]),
            weights=torch.tensor([pair.weight / total_weight for pair in pairs]),
            token_weights=torch.tensor([pair.weight / total_tokens for pair in pairs]),
            history=torch.tensor([pair.history for pair in pairs]).view(-1, 2, 2),
            mismatched=self._mismatched(pairs) if pairs[0].mismatched else None,
            informed=self._rows([pair.as_informed for pair in pairs], self._silent) if pairs[0].informed else None,
        )

    @property
    def _silent(self) -> HeadChoice:
        """The head of a pass without a gradient: there is no need to keep logits."""
        return "again" if self.head == "kept" else self.head

    def _mismatched(self, pairs: Sequence[TokenPair]) -> MismatchedReplies:
        return MismatchedReplies(
            rows=self._rows([pair.as_mismatched for pair in pairs], self._silent),
            tokens=torch.tensor([float(len(pair.mismatched)) for pair in pairs]),
            ref_logps=torch.tensor([pair.ref_mismatched_logps for pair in pairs]),
        )

    def _rows(self, pairs: Sequence[TokenPair], head: HeadChoice) -> PackedRow | PaddedRows:
        if self.shared:
            return PackedRow.of(pairs, head)
        sequences = [(pair.prompt, reply) for pair in pairs for reply in (pair.chosen, pair.rejected)]
        return PaddedRows.of(sequences, self.pad_token_id)


def loss_of(settings: TrainerSettings, pairs: PairTensors) -> PairLoss:
    """The loss that `training.loss` names, with the numbers of the settings."""
    scalars = LossScalars(
        beta=settings.beta,
        rpo_alpha=settings.rpo_alpha,
        margin=settings.margin,
        margin_unit=settings.experimental.margin_unit,
        desirable_weight=settings.desirable_weight or 1.0,
        undesirable_weight=settings.undesirable_weight or 1.0,
    )
    return preference_loss(settings.loss, pairs, scalars)


def summed_logps(model: nn.Module, batch: PairBatch, dtype: torch.dtype) -> Tensor:
    """Log-probs summed over each completion: float32 [P, 2], chosen and rejected, nats."""
    return _sums_of_sides(batch, per_token_logps(model, batch, dtype))


def loss_inputs(
    model: nn.Module, batch: PairBatch, dtype: torch.dtype, signal_clip: float | None = None
) -> tuple[PairTensors, Tensor]:
    """What the loss gets, and the summed log-probs in it (float32 [P, 2], nats).

    Where the batch has follow-ups, the policy reads each reply after them too, without a gradient.
    """
    if batch.informed is None:
        logps = summed_logps(model, batch, dtype)
        return batch.with_logps(logps), logps
    with torch.no_grad():
        informed = _row_logps(model, batch.informed, dtype)
    per_token = per_token_logps(model, batch, dtype)
    signal = informed - per_token.detach()
    if signal_clip is not None:
        signal = signal.clamp(-signal_clip, signal_clip)
    logps = _sums_of_sides(batch, per_token)
    return batch.with_logps(logps, _summed(signal * per_token, batch.chosen_tokens)), logps


def _sums_of_sides(batch: PairBatch, per_token: Tensor) -> Tensor:
    lengths = torch.stack([batch.chosen_tokens, batch.rejected_tokens], dim=1).flatten()  # [2P]
    return _summed(per_token, lengths).view(-1, 2)


@torch.no_grad()
def mismatched_ratios(model: nn.Module, batch: PairBatch, dtype: torch.dtype) -> Tensor:
    """log pi(y'|x) - log ref(y'|x) of the mismatched replies y': float32 [P], nats, without a gradient."""
    mismatched = batch.mismatched
    assert mismatched is not None, "load_pairs gives every row of kto another row's reply"
    return _summed(_row_logps(model, mismatched.rows, dtype), mismatched.tokens) - mismatched.ref_logps


def _summed(per_token: Tensor, lengths: Tensor) -> Tensor:
    """Sums over completions of these lengths (float32 [N]), which stand one after another in `per_token`."""
    owner = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths.long())  # of each token
    # summed in float64: rounded once per sum, whatever the order of addition
    return per_token.new_zeros(len(lengths)).double().index_add(0, owner, per_token.double()).float()


def per_token_logps(model: nn.Module, batch: PairBatch, dtype: torch.dtype) -> Tensor:
    """Log-prob of every completion token, chosen then rejected, pair after pair: float32 [T], nats.

    `dtype`: what the forward pass computes in. Policy and reference both use this function, so that they are the
    identical computation.
    """
    return _row_logps(model, batch.rows, dtype)


def _row_logps(model: nn.Module, rows: PackedRow | PaddedRows, dtype: torch.dtype) -> Tensor:
    return packed_logps(model, rows, dtype) if isinstance(rows, PackedRow) else padded_logps(model, rows, dtype)
