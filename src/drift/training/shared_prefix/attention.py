"""Attention over a packed row: C sees P and itself, R sees P and itself, and no pair sees another.

It is registered in transformers' AttentionInterface under `NAME` and, on purpose, not in AttentionMaskInterface, so
that no model builds a mask for it. The probe finds out whether a model's layers use this attention and nothing else.

On CUDA `varlen_attention` computes the same in one kernel call: flash attention over sequences of different lengths.
The queries of a packed row are already in order: [P C] of a pair is one sequence, R the next. The keys of R are P and
R, which are not contiguous, so keys and values are gathered. The probe checks that the kernel exists and is right.

Shapes: N tokens in the row, H query heads, K key and value heads, D width of a head, Q queries of one part.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drift.training.shared_prefix.layout import Layout, Segment
from drift.training.shared_prefix.row_attention import RowAttention

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
    if value.dtype == torch.bfloat16 and value.device.type == "cpu":
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        row = RowAttention.apply(query, key, value, shared_prefix, scale, sliding_window)
        return row.transpose(1, 2), None  # pyright: ignore[reportOptionalMemberAccess]
    parts = []
    for segment in shared_prefix.segments:
        for of_rejected in (False, True) if segment.end > segment.rejected else (False,):
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


NAME_VARLEN = "drift_shared_prefix_varlen"


def varlen_attention(
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
    """As `shared_prefix_attention`, which also computes float32 rows: flash attention has no float32 kernel."""
    if value.dtype == torch.float32 or shared_prefix is None:
        return shared_prefix_attention(
            module, query, key, value, attention_mask, scaling, sliding_window, shared_prefix
        )
    from torch.nn.attention.varlen import varlen_attn

    if shared_prefix.windows is not None:
        shared_prefix.windows.append(sliding_window)
    key_positions, query_ends, key_ends, longest = shared_prefix.sequences(value.device)
    states = [tensor.to(value.dtype)[0].transpose(0, 1) for tensor in (query, key, value)]
    attended = varlen_attn(
        states[0].contiguous(),
        states[1][key_positions],
        states[2][key_positions],
        query_ends,
        key_ends,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0) if sliding_window is None else (sliding_window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(attended, Tensor)
    return attended[None], None
