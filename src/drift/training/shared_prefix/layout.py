"""The row `[P C R | P C R ...]`: what stands where, and the forward pass over it.

Positions of R restart where those of C began, since both follow P. No token is padding and no prompt stands twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from drift.policy.padded import autocast, token_logps
from drift.training.tokens import TokenPair


@dataclass(frozen=True, slots=True)
class Segment:
    """Where one pair lies in the row: P in [start, chosen), C in [chosen, rejected), R in [rejected, end)."""

    start: int
    chosen: int
    rejected: int
    end: int


class Layout:
    """What the attention needs to know of a row. It travels as a forward keyword, so that a layer which gradient
    checkpointing computes again sees it again.

    `windows`: what each attention call was given as its sliding window, if the probe asks for it.
    """

    def __init__(self, segments: Sequence[Segment], record: bool = False):
        self.segments = tuple(segments)
        self.windows: list[int | None] | None = [] if record else None
        self._masks: dict[tuple[object, ...], Tensor] = {}

    def mask(self, queries: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """What is added to the scores when the `queries` are the last of `keys` positions: [queries, keys], 0 or -inf.

        A query sees what is not after it and, under a window, fewer than `window` positions before it.
        """
        key = (queries, keys, window, like.dtype, like.device)
        if key not in self._masks:
            ages = torch.arange(keys - queries, keys, device=like.device)[:, None] - torch.arange(
                keys, device=like.device
            )
            seen = (ages >= 0) & (ages < (window or keys))
            self._masks[key] = torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(
                ~seen, -torch.inf
            )
        return self._masks[key]


@dataclass(frozen=True, slots=True, eq=False)
class PackedRow:
    """Pairs in one row of N tokens, T of them in completions.

    input_ids, position_ids: int64 [1, N]. predicting, targets: int64 [T]: the position before each completion token,
    and the token; C and R of a pair are predicted from the same last position of P.
    """

    input_ids: Tensor
    position_ids: Tensor
    predicting: Tensor
    targets: Tensor
    layout: Layout

    @classmethod
    def of(cls, pairs: Sequence[TokenPair]) -> "PackedRow":
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
        )

    def to(self, device: torch.device) -> "PackedRow":
        return PackedRow(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.predicting.to(device),
            self.targets.to(device),
            self.layout,
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
        logits = model(
            input_ids=row.input_ids,
            position_ids=row.position_ids,
            use_cache=False,
            logits_to_keep=row.predicting,
            shared_prefix=row.layout,
        ).logits
    return token_logps(logits[0], row.targets)


def _positions(pair: TokenPair) -> list[int]:
    completions = len(pair.prompt) + len(pair.chosen)
    return [*range(completions), *range(len(pair.prompt), len(pair.prompt) + len(pair.rejected))]


def _predicting(segment: Segment) -> list[int]:
    """One position back from every completion token; R's first token is predicted where C's is."""
    chosen = range(segment.chosen - 1, segment.rejected - 1)
    return [*chosen, segment.chosen - 1, *range(segment.rejected, segment.end - 1)]
