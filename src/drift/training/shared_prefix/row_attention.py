"""Attention over a packed row in bfloat16 on a CPU: torch's kernel forward, plain matrix products backward.

For pairs of a few hundred tokens the backward pass of torch's CPU kernel takes longer than the products that it is made
of, and autograd adds up a row of zeros for every slice of queries, keys and values. Here scores, probabilities and all
sums are float32, computed again from the bfloat16 inputs; so only the inputs are kept.

Shapes: N tokens in the row, H query heads, K key and value heads, G = H / K, D width of a head; a part of a pair has Q
queries and L keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from drift.training.shared_prefix.layout import Layout

_BLOCK = 64
"""Queries at once: it limits the memory of the scores, and what causality makes superfluous is left out."""


@dataclass(frozen=True, slots=True)
class _Part:
    """[P C] of a pair, or R after P. `rows`: its queries in the row; `keys`: its keys, in one or two pieces.

    In order, query i sees the keys up to `before` + i.
    """

    rows: slice
    keys: tuple[slice, ...]
    before: int

    def gather(self, states: Tensor) -> Tensor:
        """The keys' states [K, L, D] of [1, K, N, D]."""
        return torch.cat([states[0, :, piece] for piece in self.keys], dim=1)

    def add_to(self, row: Tensor, states: Tensor) -> None:
        """Add [K, L, D] to where the keys are in [K, N, D]."""
        sizes = [piece.stop - piece.start for piece in self.keys]
        for piece, part in zip(self.keys, states.split(sizes, dim=1), strict=True):
            row[:, piece] += part

    def mask(self, first: int, last: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """0 or -inf [last - first, before + last]: what these queries see of the keys up to the last one."""
        shape = (last - first, self.before + last)
        unseen = torch.ones(shape, dtype=torch.bool).triu_(self.before + first + 1)
        if window is not None:
            unseen |= torch.ones(shape, dtype=torch.bool).tril_(self.before + first - window)
        return torch.zeros(shape, dtype=dtype).masked_fill_(unseen, -torch.inf)


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
        attended = torch.empty_like(query)
        for part in _parts(layout):
            queries = part.rows.stop - part.rows.start
            causal = part.before == 0 and (window is None or window >= queries)
            attended[:, :, part.rows] = F.scaled_dot_product_attention(
                query[:, :, part.rows],
                part.gather(key)[None],
                part.gather(value)[None],
                attn_mask=None if causal else part.mask(0, queries, window, query.dtype),
                is_causal=causal,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        ctx.save_for_backward(query, key, value)
        ctx.row = layout, scaling, window
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        layout, scaling, window = ctx.row
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros(states.shape[1:]) for states in (key, value))
        for part in _parts(layout):
            keys, values = part.gather(key).float(), part.gather(value).float()
            part_keys, part_values = torch.zeros_like(keys), torch.zeros_like(values)
            count = part.rows.stop - part.rows.start
            for first in range(0, count, _BLOCK):
                last = min(first + _BLOCK, count)
                rows, seen = slice(part.rows.start + first, part.rows.start + last), part.before + last
                queries, slopes = (_grouped(states[0, :, rows], len(keys)) for states in (query, gradients[0]))
                mask = part.mask(first, last, window, torch.float32).repeat(query.shape[1] // len(keys), 1)
                scores = torch.baddbmm(mask, queries, keys[:, :seen].transpose(1, 2), alpha=scaling)
                shares = scores.softmax(-1)
                part_values[:, :seen] += shares.transpose(1, 2) @ slopes
                of_scores = slopes @ values[:, :seen].transpose(1, 2)
                of_scores -= (of_scores * shares).sum(-1, keepdim=True)
                of_scores.mul_(shares).mul_(scaling)
                of_query[0, :, rows] = (of_scores @ keys[:, :seen]).view(query.shape[1], last - first, -1)
                part_keys[:, :seen] += of_scores.transpose(1, 2) @ queries
            part.add_to(of_key, part_keys)
            part.add_to(of_value, part_values)
        return of_query, of_key[None].to(key.dtype), of_value[None].to(value.dtype), None, None, None


def _grouped(states: Tensor, key_heads: int) -> Tensor:
    """[H, Q, D] as float32 [K, G Q, D]: the queries that share a key."""
    return states.float().reshape(key_heads, -1, states.shape[-1])
