"""Attention of one new token in bfloat16 on a CPU, over the whole buffers of the cache.

Torch's CPU kernel takes about twice as long as the two matrix products that it is made of. Those want contiguous
memory, so they also read the buffers' unused room, which holds zeros and gets no weight. Everything else (the prompts,
other types, masks and layers) is left to transformers' `sdpa`.

Shapes: B rows, H query heads, K key and value heads, G = H / K, L tokens, `room` >= L, D width of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "drift_decoding"

_CHANGES = {"softcap", "s_aux", "position_bias", "cache"}
"""Arguments with which attention is more than a softmax over masked scores."""


@contextmanager
def attention_of_one_token(model: nn.Module) -> Iterator[None]:
    """Within it, a model that computes `sdpa` in bfloat16 on a CPU uses this attention."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # pyright: ignore
    if not _takes_it(base):
        yield
        return
    base.set_attn_implementation(NAME)
    try:
        yield
    finally:
        base.set_attn_implementation("sdpa")


def _takes_it(base: Any) -> bool:
    return (
        isinstance(base, PreTrainedModel)
        and base.dtype == torch.bfloat16
        and base.device.type == "cpu"
        and base._supports_attention_backend
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
    """As transformers calls it: query [B, H, 1, D], key and value [B, K, L, D]; returns [B, 1, H, D]."""
    buffers = _buffer_of(key), _buffer_of(value)
    plain = (
        query.shape[2] == 1
        and query.dtype == key.dtype == value.dtype == torch.bfloat16
        and attention_mask is not None
        and attention_mask.shape[1:] == (1, 1, key.shape[2])
        and not any(more.get(name) is not None for name in _CHANGES)
    )
    if not plain or buffers[0] is None or buffers[1] is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    assert attention_mask is not None
    (batch, heads, _, width), (_, key_heads, length, _) = query.shape, key.shape
    keys, values = (buffer.flatten(0, 1) for buffer in buffers)  # [B K, room, D]
    scores = query.reshape(batch * key_heads, -1, width) @ keys.transpose(1, 2)
    scores = scores.view(batch, key_heads, -1, keys.shape[1])[..., :length].float()
    scores *= width**-0.5 if scaling is None else scaling
    if attention_mask.dtype == torch.bool:
        scores.masked_fill_(~attention_mask, -torch.inf)
    else:
        scores += attention_mask
    shares = query.new_zeros(batch * key_heads, heads // key_heads, keys.shape[1])
    shares.view(batch, key_heads, -1, keys.shape[1])[..., :length] = scores.softmax(-1)
    return (shares @ values).view(batch, 1, heads, -1), None


def _buffer_of(states: Tensor) -> Tensor | None:
    """The whole buffer [B, K, room, D], of which `states` [B, K, L, D] are the first L tokens; None: they are not."""
    batch, heads, _, width = states.shape
    room = states.stride(1) // width
    whole = (heads * room * width, room * width, width, 1)
    held = states.untyped_storage().nbytes() // states.element_size()
    if states.stride() != whole or states.storage_offset() or batch * whole[0] != held:
        return None
    return states.as_strided((batch, heads, room, width), whole)


AttentionInterface.register(NAME, decoding_attention)  # pyright: ignore[reportArgumentType]
AttentionMaskInterface.register(NAME, sdpa_mask)
