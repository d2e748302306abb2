"""Attention over a packed row in bfloat16 on a CPU: plain matrix products, forward and backward.

For pairs of a few hundred tokens torch's CPU kernel takes longer than the products that it is made of, and autograd
adds up a row of zeros for every slice of queries, keys and values. Here scores, shares (the softmax of scores), their
slopes and all sums are float32; shares and slopes are rounded to bfloat16 as factors of a product. The backward pass
computes them again, so only the inputs are kept.

Shapes: N tokens in the row, H query heads, K key and value heads, G = H / K, D width of a head; a part of a pair has Q
queries and L keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drift.policy.padded import products_of_bfloat16, scaled_scores
from drift.training.shared_prefix.layout import Layout

_BLOCK = 96
"""Queries at once: it limits the memory of the scores, and what causality makes superfluous is left out."""


@dataclass(frozen=True, slots=True)
class _Part:
    """[P C] of a pair, or R after P. `rows`: its queries in the row; `keys`: its keys, in one or two pieces.

    In order, query i sees the keys up to `before` + i.
    """

    rows: slice
    keys: tuple[slice, ...]
    before: int

    def blocks(self) -> Iterator[tuple[slice, int, int]]:
        """Blocks of queries: their place in the row, and the first and the one after the last of them in the part."""
        count = self.rows.stop - self.rows.start
        for first in range(0, count, _BLOCK):
            last = min(first + _BLOCK, count)
            yield slice(self.rows.start + first, self.rows.start + last), first, last

    def gather(self, states: Tensor) -> Tensor:
        """The keys' states [K, L, D] of [1, K, N, D]."""
        return torch.cat([states[0, :, piece] for piece in self.keys], dim=1)

    def add_to(self, row: Tensor, states: Tensor) -> None:
        """Add [K, L, D] to where the keys are in [K, N, D]."""
        sizes = [piece.stop - piece.start for piece in self.keys]
        for piece, part in zip(self.keys, states.split(sizes, dim=1), strict=True):
            row[:, piece] += part

    def hide(self, scores: Tensor, first: int, last: int, window: int | None) -> Tensor:
        """Scores [K, G (last - first), before + last] of these queries, with -inf, in place, where they do not see."""
        count, seen = last - first, self.before + last
        by_query = scores.view(*scores.shape[:1], -1, count, seen)
        later = torch.ones(count, count, dtype=torch.bool).triu_(1)
        by_query[..., seen - count :].masked_fill_(later, -torch.inf)
        if window is not None:
            by_query.masked_fill_(torch.ones(count, seen, dtype=torch.bool).tril_(seen - count - window), -torch.inf)
        return scores


def _parts(layout: Layout) -> Iterator[_Part]:
    for pair in layout.segments:
        whole, rejected = slice(pair.start, pair.rejected), slice(pair.rejected, pair.end)
        yield _Part(whole, (whole,), 0)
        if pair.end > pair.rejected:
            yield _Part(rejected, (slice(pair.start, pair.chosen), rejected), pair.chosen - pair.start)


class RowAttention(torch.autograd.Function):
    """`apply(query [1, H, N, D], key, value [1, K, N, D], layout, scaling, window)` returns [1, H, N, D], bfloat16."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float, window: int | None
    ) -> Tensor:
        attended = query.new_empty(*query.shape[:3], value.shape[-1])
        with torch.autocast("cpu", enabled=False), products_of_bfloat16():
            for part in _parts(layout):
                keys, values = part.gather(key).float(), part.gather(value)
                for rows, first, last in part.blocks():
                    seen = part.before + last
                    scores = scaled_scores(_grouped(query[0, :, rows], len(keys)), keys[:, :seen], scaling)
                    shares = part.hide(scores, first, last, window).softmax(-1).to(value.dtype)
                    attended[0, :, rows] = (shares @ values[:, :seen]).view(query.shape[1], last - first, -1)
        ctx.save_for_backward(query, key, value)
        ctx.row = layout, scaling, window
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        layout, scaling, window = ctx.row
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros(states.shape[1:]) for states in (key, value))
        with torch.autocast("cpu", enabled=False), products_of_bfloat16():
            for part in _parts(layout):
                keys, values = part.gather(key).float(), part.gather(value).float()
                part_keys, part_values = torch.zeros_like(keys), torch.zeros_like(values)
                for rows, first, last in part.blocks():
                    seen = part.before + last
                    queries, slopes = (_grouped(states[0, :, rows], len(keys)) for states in (query, gradients[0]))
                    scores = scaled_scores(queries, keys[:, :seen], scaling)
                    shares = part.hide(scores, first, last, window).softmax(-1)
                    part_values[:, :seen].baddbmm_(shares.transpose(1, 2), slopes)
                    of_scores = slopes @ values[:, :seen].transpose(1, 2)
                    of_scores.sub_((of_scores * shares).sum(-1, keepdim=True)).mul_(shares).mul_(scaling)
                    of_query[0, :, rows] = (of_scores @ keys[:, :seen]).view(query.shape[1], last - first, -1)
                    part_keys[:, :seen].baddbmm_(of_scores.transpose(1, 2), queries)
                part.add_to(of_key, part_keys)
                part.add_to(of_value, part_values)
        return of_query, of_key[None].to(key.dtype), of_value[None].to(value.dtype), None, None, None


def _grouped(states: Tensor, key_heads: int) -> Tensor:
    """[H, Q, D] as float32 [K, G Q, D]: the queries that share a key."""
    return states.float().reshape(key_heads, -1, states.shape[-1])
