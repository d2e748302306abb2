"""The row `[P C R | P C R ...]`: where each part is, and the forward pass over it.

The positions of R start again where those of C started, since both follow P. There is no padding, and every prompt is
in the row once. For P = a b, C = c d, R = e f g:

    index          0 1 2 3 4 5 6
    input_ids      a b c d e f g
    position_ids   0 1 2 3 2 3 4
    targets        c d e f g         the completion tokens, C then R
    predicting     1 2 1 4 5         the index from which each of them is predicted: b predicts both c and e
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from drift.policy.padded import autocast, token_logps
from drift.training.shared_prefix.head import HeadChoice, head_logps
from drift.training.tokens import TokenPair


@dataclass(frozen=True, slots=True)
class Segment:
    """Indices of one pair in the row: P in [start, chosen), C in [chosen, rejected), R in [rejected, end)."""

    start: int
    chosen: int
    rejected: int
    end: int


_HIDDEN_POSITION = 2**40
"""A position after every other: no query sees it."""


class Layout:
    """What the attention needs to know of a row.

    It is a keyword of the forward pass, so that a layer gets it again when gradient checkpointing computes it again.
    `windows`: the sliding window that each attention call got, if `record` is set (by the probe).
    """

    def __init__(self, segments: Sequence[Segment], record: bool = False):
        self.segments = tuple(segments)
        self.windows: list[int | None] | None = [] if record else None
        self._masks: dict[tuple[object, ...], Tensor] = {}
        self._sequences: tuple[Tensor, Tensor, Tensor, int] | None = None

    def mask(self, segment: Segment, of_rejected: bool, window: int | None, like: Tensor) -> Tensor:
        """What is added to a pair's attention scores, 0 or -inf: [P C, P C], or with `of_rejected` [R, P C R].

        A query sees keys that are not after it and, with a window, fewer than `window` positions before it; R does not
        see C. `like`: a tensor with the mask's type and device. Masks are kept: every layer asks for the same ones.
        """
        key = (segment, of_rejected, window, like.dtype, like.device)
        if key not in self._masks:
            prompt, chosen = segment.chosen - segment.start, segment.rejected - segment.chosen
            queries = keys = list(range(prompt + chosen))
            if of_rejected:
                queries = list(range(prompt, prompt + segment.end - segment.rejected))
                keys = [*range(prompt), *[_HIDDEN_POSITION] * chosen, *queries]
            distance = torch.tensor(queries, device=like.device)[:, None] - torch.tensor(keys, device=like.device)
            unseen = (distance < 0) | (distance >= (window or _HIDDEN_POSITION))
            self._masks[key] = torch.zeros(distance.shape, dtype=like.dtype, device=like.device).masked_fill_(
                unseen, -torch.inf
            )
        return self._masks[key]

    def sequences(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
        """For one kernel call over the 2P sequences [P C], R of pair after pair.

        Returns the indices of all keys (int64), the cumulated lengths of queries and of keys (int32 [2P + 1], from 0),
        and the longest sequence's number of keys.
        """
        if self._sequences is None:
            keys = [
                part
                for s in self.segments
                for part in ([*range(s.start, s.rejected)], [*range(s.start, s.chosen), *range(s.rejected, s.end)])
            ]
            queries = [length for s in self.segments for length in (s.rejected - s.start, s.end - s.rejected)]
            self._sequences = (
                torch.tensor([index for part in keys for index in part], device=device),
                torch.tensor([*accumulate(queries, initial=0)], dtype=torch.int32, device=device),
                torch.tensor([*accumulate(map(len, keys), initial=0)], dtype=torch.int32, device=device),
                max(map(len, keys)),
            )
        return self._sequences


@dataclass(frozen=True, slots=True, eq=False)
class PackedRow:
    """Pairs in one row of N tokens, T of them in completions.

    input_ids, position_ids: int64 [1, N]. targets: int64 [T], the completion tokens. predicting: int64 [T], for each of
    them the index in the row that predicts it; the first tokens of C and R are both predicted by the last token of P.
    `head`: who computes the logits, see `HeadChoice`.
    """

    input_ids: Tensor
    position_ids: Tensor
    predicting: Tensor
    targets: Tensor
    layout: Layout
    head: HeadChoice = "model"

    @classmethod
    def of(cls, pairs: Sequence[TokenPair], head: HeadChoice = "model") -> "PackedRow":
        lengths = [len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs]
        spans = pairwise(accumulate(lengths, initial=0))
        segments = [
            Segment(start, start + len(pair.prompt), end - len(pair.rejected), end)
            for (start, end), pair in zip(spans, pairs, strict=True)
        ]
        return cls(
            torch.tensor([[token for pair in pairs for token in (*pair.prompt, *pair.chosen, *pair.rejected)]]),
            torch.tensor([[position for pair in pairs for position in _positions(pair)]]),
            torch.tensor([index for segment in segments for index in _predicting(segment)]),
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
        """Tokens that the model computes; a packed row has no padding."""
        return self.input_ids.numel()


def packed_logps(model: nn.Module, row: PackedRow, dtype: torch.dtype) -> Tensor:
    """Log-prob of every completion token, C then R, pair after pair: float32 [T], nats.

    The model's attention must be switched to `attention.NAME` (`choose_packing`). The forward pass computes in `dtype`,
    and the head only the T rows that predict a completion token.
    """
    with autocast(row.input_ids.device, dtype):
        if row.head != "model":
            return head_logps(model, lambda: _logits(model, row), row.targets, dtype, row.head)
        logits = _logits(model, row)
    return token_logps(logits[0], row.targets)


def _logits(model: nn.Module, row: PackedRow) -> Tensor:
    """[1, T, V], in the type of the forward pass."""
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
    """The index before every completion token; for R's first token, the index that predicts C's first. R may be empty:
    a reply that users liked has no rejected one."""
    chosen = range(segment.chosen - 1, segment.rejected - 1)
    first = [segment.chosen - 1] if segment.end > segment.rejected else []
    return [*chosen, *first, *range(segment.rejected, segment.end - 1)]
