"""Attention while sampling in bfloat16 on a CPU: plain matrix products, with scores in float32.

Torch's CPU kernel takes longer than they do. Products want contiguous memory, so for one new token
they read the whole buffers of the cache: the unused room holds zeros and gets no weight. Other types, masks and layers
are left to transformers' `sdpa`.

Shapes: B rows, H query heads, K key and value heads, Q new tokens, L tokens, `room` >= L, D width of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from drift.policy.decode.cache import CachedRows
from drift.policy.padded import products_of_bfloat16, scaled_scores

NAME = "drift_decoding"

_CHANGES = ("softcap", "s_aux", "position_bias", "cache", "is_causal")
"""Arguments with which attention is more than a softmax over masked scores, or another mask."""

_BLOCK_QUERIES, _BLOCK_SCORES = 96, 2**24
"""At most so many queries and scores of all heads at once: 64 MiB in float32."""


@contextmanager
def attention_of_products(model: nn.Module) -> Iterator[None]:
    """Within it, a model that computes `sdpa` in bfloat16 on a CPU uses this attention."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # pyright: ignore
    if not _takes_it(base):
        yield
        return
    try:
        base.set_attn_implementation(NAME)
        yield
    finally:
        base.set_attn_implementation("sdpa")


def _takes_it(base: Any) -> bool:
    """Models with another cache may also choose what they see by the name of their attention, as DeepSeek V3.2 does."""
    return (
        isinstance(base, PreTrainedModel)
        and base.dtype == torch.bfloat16
        and base.device.type == "cpu"
        and base._supports_attention_backend
        and CachedRows(base).of_plain_attention
        and all(
            part.config._attn_implementation == "sdpa" for part in base.modules() if isinstance(part, PreTrainedModel)
        )
    )


def decoding_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: query [B, H, Q, D], key and value [B, K, L, D]; returns [B, Q, H, D]."""
    seen = _seen(module, query, key, attention_mask)
    small = query.dtype == key.dtype == value.dtype == torch.bfloat16
    if seen is None or not small or dropout or any(more.get(name) is not None for name in _CHANGES):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    (batch, heads, count, _), length = query.shape, key.shape[2]
    keys, values = _buffers(key, value) if count == 1 else (key, value)
    long_keys = keys.float()
    attended = query.new_empty(batch, count, heads, value.shape[-1])
    size = min(_BLOCK_QUERIES, max(1, _BLOCK_SCORES // (batch * heads * length)))
    with products_of_bfloat16():
        for first in range(0, count, size):
            block = slice(first, first + size)
            last = length - count + min(first + size, count)
            if bool(seen[:, :, block, last:].any()):  # not causal
                last = length
            upto = keys.shape[2] if last == length else last
            attended[:, block] = _attend(
                query[:, :, block], long_keys[:, :, :upto], values[:, :, :upto], seen[:, :, block, :last], scale
            )
    return attended, None


def _attend(query: Tensor, long_keys: Tensor, values: Tensor, seen: Tensor, scaling: float) -> Tensor:
    """[B, Q, H, D] from query [B, H, Q, D], keys (float32) and values [B, K, room, D], and what is seen: bool
    [B or 1, 1, Q, L].

    Scores are float32: bfloat16 would round those above 1,000, which Qwen2.5 has, by up to 4.
    """
    (batch, heads, count, _), (_, key_heads, room, _), length = query.shape, long_keys.shape, seen.shape[-1]
    grouped = query.float().reshape(batch * key_heads, -1, query.shape[-1])
    scores = scaled_scores(grouped, long_keys.flatten(0, 1), scaling).view(batch, heads, count, room)[..., :length]
    # not -inf: padding sees nothing, and NaN there would reach the rows that give it no weight
    scores.masked_fill_(~seen, torch.finfo(torch.float32).min)
    shares = values.new_zeros(batch, heads, count, room)
    shares[..., :length] = scores.softmax(-1)
    attended = shares.view(batch * key_heads, -1, room) @ values.flatten(0, 1)
    return attended.view(batch, heads, count, -1).transpose(1, 2)


def _seen(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor | None:
    """Which keys each query sees, the same for all heads: bool [B or 1, 1, Q, L]; None: it is not known here."""
    count, length = query.shape[2], key.shape[2]
    if mask is not None:
        return mask if mask.dtype == torch.bool and mask.shape[1:] == (1, count, length) else None
    if count == 1 or (count == length and getattr(module, "is_causal", True)):
        return torch.ones(1, 1, count, length, dtype=torch.bool).tril_(length - count)
    return None


def _buffers(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The whole buffers [B, K, room, D], of which key and value [B, K, L, D] are the first L tokens; else these."""
    keys, values = _buffer_of(key), _buffer_of(value)
    if keys is None or values is None or keys.shape[2] != values.shape[2]:
        return key, value
    return keys, values


def _buffer_of(states: Tensor) -> Tensor | None:
    """The whole buffer; None: `states` are not the beginning of one."""
    batch, heads, _, width = states.shape
    room = states.stride(1) // width
    whole = (heads * room * width, room * width, width, 1)
    held = states.untyped_storage().nbytes() // states.element_size()
    if states.stride() != whole or states.storage_offset() or batch * whole[0] != held:
        return None
    return states.as_strided((batch, heads, room, width), whole)


AttentionInterface.register(NAME, decoding_attention)  # pyright: ignore[reportArgumentType]
AttentionMaskInterface.register(NAME, sdpa_mask)
