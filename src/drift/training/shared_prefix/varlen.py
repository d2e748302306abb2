"""The same attention in one kernel call on CUDA: flash attention over sequences of different lengths.

The queries of a packed row are already in order: [P C] of a pair is one sequence, R the next. The keys of R are P and
R, which are not contiguous, so keys and values are gathered. The probe checks that the kernel exists and is right.
"""

from typing import Any

import torch
from torch import Tensor, nn

from drift.training.shared_prefix.attention import shared_prefix_attention
from drift.training.shared_prefix.layout import Layout

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
