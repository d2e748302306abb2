"""Attention while sampling in bfloat16 on a CPU: against plain attention in float64, and where it is not used."""

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from drift.config import PolicySettings, SamplingSettings
from drift.policy.decode import attention
from drift.policy.decode.attention import NAME, attention_of_products, decoding_attention
from drift.policy.decode.cache import RoomyLayer
from drift.policy.model import load_policy
from drift.policy.samplers.transformers import generate

BATCH, KEY_HEADS, WIDTH, LENGTH = 3, 2, 16, 70
PROMPTS = [[1, 30 + n, *range(40, 41 + 3 * n)] for n in range(8)]
KEYS = [f"key-{n}" for n in range(8)]


class Heads(nn.Module):
    num_key_value_groups = 3


def cached(length: int = LENGTH, bias: float = 0.0) -> RoomyLayer:
    """`bias`: of the keys."""
    layer = RoomyLayer()
    keys, values = torch.randn(2, BATCH, KEY_HEADS, length, WIDTH)
    layer.update((keys + bias).bfloat16(), values.bfloat16())
    return layer


def padded(length: int = LENGTH) -> torch.Tensor:
    """bool [B, 1, 1, L]: rows 1 and 2 begin with padding."""
    return (torch.arange(length) >= torch.tensor([0, 5, 60])[:, None])[:, None, None]


def queries(count: int = 1, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(BATCH, KEY_HEADS * Heads.num_key_value_groups, count, WIDTH).to(dtype)


def plain(query, layer, seen, scaling) -> torch.Tensor:
    """float64 [B, Q, H, D]."""
    keys, values = (states.double().repeat_interleave(3, dim=1) for states in (layer.keys, layer.values))
    scores = query.double() @ keys.transpose(2, 3) * (WIDTH**-0.5 if scaling is None else scaling)
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values).transpose(1, 2)


@pytest.mark.parametrize("bias", [0, 20])
@pytest.mark.parametrize("scaling", [None, 0.5])
def test_one_token_attends_as_in_float64(scaling, bias):
    """With the bias of a model like Qwen2.5 scores are above 1,000; in bfloat16 they would be off by 4."""
    torch.manual_seed(0)
    layer, query = cached(bias=bias), queries() + bias
    found, _ = decoding_attention(Heads(), query, layer.keys, layer.values, padded(), 0.0, scaling)
    right = plain(query, layer, padded(), scaling)
    assert found.shape == right.shape
    assert found.dtype == torch.bfloat16
    assert (found.double() - right).norm() / right.norm() < 4e-3  # shares and result are rounded to bfloat16
    unmasked, _ = decoding_attention(Heads(), query, layer.keys, layer.values, None, 0.0, scaling)
    right = plain(query, layer, torch.ones(1, 1, 1, LENGTH, dtype=torch.bool), scaling)
    assert (unmasked.double() - right).norm() / right.norm() < 4e-3


@pytest.mark.parametrize("seen", ["causal", "causal, no mask", "window", "padding", "both ways"])
@pytest.mark.parametrize("block", [7, 96])
def test_a_prompt_attends_as_in_float64(monkeypatch, block, seen):
    monkeypatch.setattr(attention, "_BLOCK_QUERIES", block)
    torch.manual_seed(0)
    layer, query = cached(), queries(LENGTH)
    causal = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    mask = {
        "causal": causal.expand(BATCH, -1, -1, -1),
        "causal, no mask": None,
        "window": causal & ~causal.tril(-9),
        "padding": causal & padded(),
        "both ways": padded().expand(-1, -1, LENGTH, -1),
    }[seen]
    found, _ = decoding_attention(Heads(), query, layer.keys, layer.values, mask)
    right = plain(query, layer, causal if mask is None else mask, None)
    read = right.isfinite()  # padding sees nothing
    assert found.isfinite().all()
    assert (found.double() - right)[read].norm() / right[read].norm() < 4e-3


def test_the_room_of_the_buffers_has_no_weight_after_any_change_of_the_rows():
    torch.manual_seed(0)
    layer = cached(3)
    for length in (4, 80, 200):
        new = length - layer.get_seq_length()
        layer.update(*torch.randn(2, BATCH, KEY_HEADS, new, WIDTH).bfloat16())
        layer.reorder_cache(torch.tensor([2, 0, 1]))
        joined = RoomyLayer()
        joined.take_rows([layer])
        layer = joined
        query, mask = queries(), torch.ones(BATCH, 1, 1, length, dtype=torch.bool)
        found, _ = decoding_attention(Heads(), query, layer.keys, layer.values, mask)
        right, _ = sdpa_attention_forward(Heads(), query, layer.keys, layer.values, mask)
        assert (found.float() - right.float()).norm() / right.float().norm() < 8e-3


def test_keys_that_were_changed_after_the_cache_are_used():
    torch.manual_seed(0)
    layer, query = cached(), queries()
    found, _ = decoding_attention(Heads(), query, 2 * layer.keys, layer.values, padded())
    right, _ = decoding_attention(Heads(), 2 * query, layer.keys, layer.values, padded())
    assert torch.equal(found, right)


@pytest.mark.parametrize("why", ["an additive mask", "a mask by heads", "float32", "a bias", "both ways"])
def test_all_else_is_left_to_transformers(why):
    torch.manual_seed(0)
    layer, query, mask, more = cached(), queries(), padded(), {}
    keys, values = layer.keys, layer.values
    if why == "an additive mask":
        mask = torch.zeros(mask.shape).bfloat16().masked_fill(~mask, -torch.inf)
    elif why == "a mask by heads":
        mask = mask.repeat(1, 6, 1, 1)
    elif why == "both ways":
        query, mask, more = queries(LENGTH), None, {"is_causal": False}
    elif why == "float32":
        query, keys, values = query.float(), keys.float(), values.float()
    else:
        more["position_bias"] = torch.randn(1, 6, 1, LENGTH).bfloat16()
    found, _ = decoding_attention(Heads(), query, keys, values, mask, **more)
    right, _ = sdpa_attention_forward(Heads(), query, keys, values, mask, **more)
    assert torch.equal(found, right)


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", NAME), ("float32", "sdpa")])
def test_a_model_has_it_while_it_samples_in_bfloat16(tiny_policy, dtype, name):
    policy = load_policy(tiny_policy, PolicySettings(dtype=dtype))
    seen = set()
    policy.model.register_forward_pre_hook(lambda model, _: seen.add(model.config._attn_implementation))
    replies = generate(policy, PROMPTS, KEYS, SamplingSettings(max_new_tokens=8))
    assert len(replies) == len(PROMPTS)
    assert seen == {name}
    assert policy.model.config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError, match="in between"), attention_of_products(policy.model):
        raise RuntimeError("in between")
    assert policy.model.config._attn_implementation == "sdpa"
