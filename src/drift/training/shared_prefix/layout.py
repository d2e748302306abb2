"""The row `[P C R | P C R ...]`: what stands where, and the forward pass over it.

Positions of R restart where those of C began, since both follow P. No token is padding and no prompt stands twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from drift.policy.padded import autocast, token_logps
from drift.training.shared_prefix.head import Head, head_logps
from drift.training.tokens import TokenPair


@dataclass(frozen=True, slots=True)
class Segment:
    """Where one pair lies in the row: P in [start, chosen), C in [chosen, rejected), R in [rejected, end)."""

    start: int
    chosen: int
    rejected: int
    end: int


_NEVER = 2**40
"""A position after every other."""


class Layout:
    """What the attention needs to know of a row. It travels as a forward keyword, so that a layer which gradient
    checkpointing computes again sees it again.

    `windows`: what each attention call was given as its sliding window, if the probe asks for it.
    """

    def __init__(self, segments: Sequence[Segment], record: bool = False):
        self.segments = tuple(segments)
        self.windows: list[int | None] | None = [] if record else None
        self._masks: dict[tuple[object, ...], Tensor] = {}
        self._sequences: tuple[Tensor, Tensor, Tensor, int] | None = None

    def mask(self, segment: Segment, of_rejected: bool, window: int | None, like: Tensor) -> Tensor:
        """What is added to a pair's attention scores, 0 or -inf: of [P C] to itself, or of R to [P C R] without C.

        A query sees what is not after it and, under a window, fewer than `window` positions before it.
        """
        key = (segment, of_rejected, window, like.dtype, like.device)
        if key not in self._masks:
            prompt, chosen = segment.chosen - segment.start, segment.rejected - segment.chosen
            queries = keys = list(range(prompt + chosen))
            if of_rejected:
                queries = list(range(prompt, prompt + segment.end - segment.rejected))
                keys = [*range(prompt), *[_NEVER] * chosen, *queries]
            ages = torch.tensor(queries, device=like.device)[:, None] - torch.tensor(keys, device=like.device)
            unseen = (ages < 0) | (ages >= (window or _NEVER))
            self._masks[key] = torch.zeros(ages.shape, dtype=like.dtype, device=like.device).masked_fill_(
                unseen, -torch.inf
            )
        return self._masks[key]

    def sequences(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
        """For one kernel call over [P C], R of pair after pair: places of the keys (int64), where each sequence's
        queries and keys end (int32, from 0), and the longest sequence."""
        if self._sequences is None:
            keys = [
                part
                for s in self.segments
                for part in ([*range(s.start, s.rejected)], [*range(s.start, s.chosen), *range(s.rejected, s.end)])
            ]
            queries = [length for s in self.segments for length in (s.rejected - s.start, s.end - s.rejected)]
            self._sequences = (
                torch.tensor([place for part in keys for place in part], device=device),
                torch.tensor([*accumulate(queries, initial=0)], dtype=torch.int32, device=device),
                torch.tensor([*accumulate(map(len, keys), initial=0)], dtype=torch.int32, device=device),
                max(map(len, keys)),
            )
        return self._sequences


@dataclass(frozen=True, slots=True, eq=False)
class PackedRow:
    """Pairs in one row of N tokens, T of them in completions.

    input_ids, position_ids: int64 [1, N]. predicting, targets: int64 [T]: the position before each completion token,
    and the token; C and R of a pair are predicted from the same last position of P. `head`: who computes the logits.
    """

    input_ids: Tensor
    position_ids: Tensor
    predicting: Tensor
    targets: Tensor
    layout: Layout
    head: Head = "model"

    @classmethod
    def of(cls, pairs: Sequence[TokenPair], head: Head = "model") -> "PackedRow":
        lengths = [len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs]
        spans = pairwise(accumulate(lengths, initial=0))
        segments = [
            Segment(start, start + len(pair.prompt), end - len(pair.rejected), end)
            for (start, end), pair in zip(spans, pairs, strict=True)
        ]
        return cls(
            torch.tensor([[token for pair in pairs for token in (*pair.prompt, *pair.chosen, *pair.rejected)]]),
            torch.tensor([[place for pair in pairs for place in _positions(pair)]]),
            torch.tensor([place for segment in segments for place in _predicting(segment)]),
            torch.tensor([token for pair in pairs for token in (*pair.chosen, *pair.rejected)]),
            Layout(segments),
            head,
        )

    def to(self, device: torch.device) -> "PackedRow":
        return PackedRow(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.predicting.to(device),
            self.targets.to(device),
            self.layout,
            self.head,
        )

    @property
    def padded_tokens(self) -> int:
        """What the model computes: here, no padding."""
        return self.input_ids.numel()


def packed_logps(model: nn.Module, row: PackedRow, dtype: torch.dtype) -> Tensor:
    """Log-probability of every completion token, C and R of pair after pair: float32 [T], nats.

    The model's attention has to be switched to `attention.NAME`. The forward runs in `dtype`, the head only where a
    completion token is predicted.
    """
    with autocast(row.input_ids.device, dtype):
        if row.head != "model":
            return head_logps(model, lambda: _logits(model, row), row.targets, dtype, row.head)
        logits = _logits(model, row)
    return token_logps(logits[0], row.targets)


def _logits(model: nn.Module, row: PackedRow) -> Tensor:
    return model(
        input_ids=row.input_ids,
        position_ids=row.position_ids,
        use_cache=False,
        logits_to_keep=row.predicting,
        shared_prefix=row.layout,
    ).logits


def _positions(pair: TokenPair) -> list[int]:
    completions = len(pair.prompt) + len(pair.chosen)
    return [*range(completions), *range(len(pair.prompt), len(pair.prompt) + len(pair.rejected))]


def _predicting(segment: Segment) -> list[int]:
    """One position back from every completion token; R's first token is predicted where C's is."""
    chosen = range(segment.chosen - 1, segment.rejected - 1)
    return [*chosen, segment.chosen - 1, *range(segment.rejected, segment.end - 1)]
