"""Attention over a packed row: C sees P and itself, R sees P and itself, and no pair sees another.

It is registered in transformers' AttentionInterface under `NAME` and, on purpose, not in AttentionMaskInterface, so
that no model builds a mask for it. The probe finds out whether a model's layers use this attention and nothing else.

Shapes: N tokens in the row, H query heads, K key and value heads, D width of a head, Q queries of one part.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drift.training.shared_prefix.layout import Layout, Segment

NAME = "drift_shared_prefix"


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    shared_prefix: Layout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: query [1, H, N, D], key and value [1, K, N, D], any float type; returns [1, N, H, D].

    Raises RuntimeError for a row without a layout: without a mask, it would be one causal sequence.
    """
    if shared_prefix is None or attention_mask is not None:
        raise RuntimeError(
            f"{type(module).__name__}: {NAME} needs a packed row, passed as `shared_prefix`, and no attention mask"
        )
    if shared_prefix.windows is not None:
        shared_prefix.windows.append(sliding_window)
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary embeddings may leave them in float32
    parts = []
    for segment in shared_prefix.segments:
        for of_rejected in (False, True):
            parts.append(_attend(query, key, value, scaling, sliding_window, (shared_prefix, segment, of_rejected)))
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
    part: tuple[Layout, Segment, bool],
) -> Tensor:
    """One part of a pair: [P C], which is contiguous and causal, or R, to which C is hidden. Returns [1, H, Q, D].

    Keys and values are slices of the row: nothing is copied, and only the row is kept for the gradient.
    """
    layout, segment, of_rejected = part
    rows = slice(segment.rejected, segment.end) if of_rejected else slice(segment.start, segment.rejected)
    keys = slice(segment.start, rows.stop)
    # the fast causal kernel wherever a mask would be plainly causal; keys of R still include C, so R needs a mask
    causal = not of_rejected and (window is None or window >= keys.stop - keys.start)
    return F.scaled_dot_product_attention(
        query[:, :, rows],
        key[:, :, keys],
        value[:, :, keys],
        attn_mask=None if causal else layout.mask(segment, of_rejected, window, query),
        is_causal=causal,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
