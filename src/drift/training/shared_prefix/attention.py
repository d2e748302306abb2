"""Attention over a packed row: C sees P and itself, R sees P and itself, and no pair sees another.

It is registered in transformers' AttentionInterface under `NAME` and, on purpose, not in AttentionMaskInterface: then
no model builds a mask for it. Whether a model's layers are nothing but this attention is for the probe to find out.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

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
    """As transformers calls it: query [1, H, N, D], key and value [1, K, N, D] to [1, N, H, D].

    Raises RuntimeError for a row without a layout: without a mask it would be attended to as one causal sequence.
    """
    if shared_prefix is None or attention_mask is not None:
        raise RuntimeError(f"{type(module).__name__}: {NAME} is for packed rows, which come with `shared_prefix`")
    if shared_prefix.windows is not None:
        shared_prefix.windows.append(sliding_window)
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary embeddings may leave them in float32
    parts = []
    for segment in shared_prefix.segments:
        for rows, keys in _calls(segment, key, value):
            parts.append(_attend(query[:, :, rows], *keys, scaling, sliding_window, shared_prefix))
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _calls(segment: Segment, key: Tensor, value: Tensor) -> list[tuple[slice, tuple[Tensor, Tensor]]]:
    """Two calls per pair: [P C] stands together and is plainly causal; R sees P, then itself."""
    first = slice(segment.start, segment.rejected)
    prompt, rejected = slice(segment.start, segment.chosen), slice(segment.rejected, segment.end)
    key_r, value_r = (torch.cat((states[:, :, prompt], states[:, :, rejected]), dim=2) for states in (key, value))
    return [(first, (key[:, :, first], value[:, :, first])), (rejected, (key_r, value_r))]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None, layout: Layout
) -> Tensor:
    """The queries are the last positions of the keys. [1, H, Q, D]"""
    queries, keys = query.shape[2], key.shape[2]
    causal = queries == keys and (window is None or window >= keys)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if causal else layout.mask(queries, keys, window, query),
        is_causal=causal,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


AttentionInterface.register(NAME, shared_prefix_attention)
