"""Attention of one new token in bfloat16 on a CPU: against plain attention in float64, and where it is not used."""

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from drift.config import PolicySettings, SamplingSettings
from drift.policy.decode.attention import NAME, attention_of_one_token, decoding_attention
from drift.policy.decode.cache import RoomyLayer
from drift.policy.model import load_policy
from drift.policy.samplers.transformers import generate

BATCH, KEY_HEADS, WIDTH, LENGTH = 3, 2, 16, 70
PROMPTS = [[1, 30 + n, *range(40, 41 + 3 * n)] for n in range(8)]
KEYS = [f"key-{n}" for n in range(8)]


class Heads(nn.Module):
    num_key_value_groups = 3


def cached(length: int = LENGTH) -> RoomyLayer:
    layer = RoomyLayer()
    layer.update(*torch.randn(2, BATCH, KEY_HEADS, length, WIDTH).bfloat16())
    return layer


def padded(length: int = LENGTH) -> torch.Tensor:
    """bool [B, 1, 1, L]: rows 1 and 2 begin with padding."""
    return (torch.arange(length) >= torch.tensor([0, 5, 60])[:, None])[:, None, None]


def queries(count: int = 1, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(BATCH, KEY_HEADS * Heads.num_key_value_groups, count, WIDTH).to(dtype)


@pytest.mark.parametrize("scaling", [None, 0.5])
@pytest.mark.parametrize("additive", [False, True])
def test_it_is_plain_attention(additive, scaling):
    torch.manual_seed(0)
    layer, query, mask = cached(), queries(), padded()
    added = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    found, _ = decoding_attention(Heads(), query, layer.keys, layer.values, added if additive else mask, 0.0, scaling)
    keys, values = (states.double().repeat_interleave(3, dim=1) for states in (layer.keys, layer.values))
    scores = query.double() @ keys.transpose(2, 3) * (WIDTH**-0.5 if scaling is None else scaling)
    right = ((scores + added).softmax(-1) @ values).transpose(1, 2)
    assert found.shape == right.shape
    assert found.dtype == torch.bfloat16
    assert (found.double() - right).norm() / right.norm() < 8e-3  # two roundings to bfloat16


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


@pytest.mark.parametrize("why", ["a prompt", "no mask", "not a buffer", "float32", "a bias"])
def test_all_else_is_left_to_transformers(why):
    torch.manual_seed(0)
    layer, query, mask, more = cached(), queries(), padded(), {}
    keys, values = layer.keys, layer.values
    if why == "a prompt":
        query, mask = queries(4), mask.expand(-1, 1, 4, -1)
    elif why == "no mask":
        mask = None
    elif why == "not a buffer":
        keys, values = keys[:, :, 1:], values[:, :, 1:]
        mask = mask[..., 1:]
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
    with pytest.raises(RuntimeError, match="in between"), attention_of_one_token(policy.model):
        raise RuntimeError("in between")
    assert policy.model.config._attn_implementation == "sdpa"
