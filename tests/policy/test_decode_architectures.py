"""On every architecture that can be trained, a batch is decoded as the plain forward pass would; or one line says why
not."""

import copy
from contextlib import nullcontext

import pytest
import torch
import transformers

from architectures import EITHER, HEADS, PLAIN, SHARED, SMALL, build
from drift.config import PolicySettings, SamplingSettings
from drift.errors import PrerequisiteError
from drift.policy.chat import ChatFormat
from drift.policy.decode import decode_batch, loop, pick
from drift.policy.decode.attention import NAME, attention_of_products
from drift.policy.decode.cache import CachedRows
from drift.policy.decode.loop import uniforms
from drift.policy.model import Policy

SAMPLING = SamplingSettings(max_new_tokens=24, temperature=1.0, top_p=0.95)
GRIFFIN = {"lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "recurrent", "attention"]}
XLSTM = {"vocab_size": 128, "hidden_size": 32, "embedding_dim": 32, "num_hidden_layers": 2, "num_blocks": 2}
RWKV = {"vocab_size": 128, "hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2}
MINIMAX = {**HEADS, "layer_types": ["linear_attention", "full_attention"], "num_local_experts": 4, "block_size": 8}
NOT_DECODED = {
    "padding gets into its states": ("RecurrentGemmaConfig", SMALL | GRIFFIN | {"num_hidden_layers": 3}, "log-probs"),
    "takes no cache": ("RwkvConfig", RWKV, "takes no cache"),
    "takes a cache of its own": ("MiniMaxConfig", MINIMAX, "MiniMax uses cache of its own"),
    "takes a cache of its own, named as Mamba's": ("xLSTMConfig", XLSTM | {"num_heads": 4}, "its forward pass fails"),
}


def policy_of(model, byte_tokenizer, ends: tuple[int, ...]) -> Policy:
    return Policy(model, ChatFormat.of(byte_tokenizer, PolicySettings(), ends), "tiny")


def ends_of(model) -> tuple[int, ...]:
    """Ten tokens end a reply, so that rows leave the batch at different steps."""
    ends = tuple(range(2, 12))
    model.generation_config.eos_token_id = list(ends)
    return ends


@torch.no_grad()
def by_plain_forward(model, prompt: tuple[int, ...], completion: tuple[int, ...], key: str) -> list[int]:
    """The token that the draw picks after each beginning of the completion: one row, no padding, no cache."""
    logits = model(torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    draws = torch.from_numpy(uniforms(key, SAMPLING.max_new_tokens))[: len(completion)]
    return pick(logits, draws, SAMPLING.temperature, SAMPLING.top_p).tolist()


@pytest.mark.parametrize(
    "settings", [*SHARED.values(), *PLAIN.values(), *EITHER.values()], ids=[*SHARED, *PLAIN, *EITHER]
)
def test_rows_that_end_first_and_samples_of_a_prompt_leave_the_others_as_they_are(
    settings, byte_tokenizer, monkeypatch
):
    monkeypatch.setitem(loop._PASS_TOKENS, "cpu", 8)  # prompts of 20 and 12 tokens are computed together, and the rest
    name, fields = settings
    if "original_max_position_embeddings" in fields:
        fields = {**fields, "original_max_position_embeddings": 64}
    model = build(name, fields)
    torch.manual_seed(3)
    prompts = [tuple(torch.randint(12, 128, (length,)).tolist()) for length in (3, 7, 7, 12, 20, 5)]
    prompts[2] = prompts[1]
    keys = [f"key {row}" for row in range(len(prompts))]
    replies = decode_batch(policy_of(model, byte_tokenizer, ends_of(model)), prompts, keys, SAMPLING)
    completions = [reply.token_ids or () for reply in replies]
    assert len({len(completion) for completion in completions}) > 2
    assert completions[1] != completions[2]
    alone = copy.deepcopy(model)
    for prompt, completion, key in zip(prompts, completions, keys, strict=True):
        assert list(completion) == by_plain_forward(alone, prompt, completion, key)


@torch.inference_mode()
def logits_of_steps(model, context) -> torch.Tensor:
    """After two prompts, one of them padded, and after each of six more tokens: float32 [7, 2, V]."""
    ids = torch.tensor([[*range(40, 52)], [0] * 7 + [*range(60, 65)]])
    mask = (ids > 0).long()
    with context:
        rows = CachedRows(model)
        steps = [rows.start(ids, mask), *(rows.append(torch.tensor([20 + n, 30 + n])) for n in range(6))]
    return torch.stack(steps).float()


KEEP_THEIR_ATTENTION = {
    *("gemma2", "bloom", "mpt", "gpt-oss with sinks"),  # they change the scores
    *("qwen3-next", "qwen3.5", "mamba", "falcon-h1", "lfm2 with convolutions"),  # they keep more than keys and values
}


@pytest.mark.parametrize("name", [*SHARED, *PLAIN, *EITHER])
def test_in_bfloat16_the_attention_of_products_differs_by_rounding_alone(name):
    model = build(*{**SHARED, **PLAIN, **EITHER}[name]).bfloat16().eval()
    usual = logits_of_steps(model, nullcontext())
    found = logits_of_steps(model, attention_of_products(model))
    assert (found - usual).norm() / usual.norm() < 0.1  # without its padding mask .4
    with attention_of_products(model):
        assert (model.config._attn_implementation != NAME) == (name in KEEP_THEIR_ATTENTION)


def test_a_model_that_asks_for_the_name_of_its_attention_keeps_it():
    """DeepSeek V3.2 sees the keys that its index chose only if the attention is called `sdpa` or `eager`."""
    index = {"index_topk": 4, "index_n_heads": 2, "index_head_dim": 16, "q_lora_rank": 16}
    model = build("DeepseekV32Config", SHARED["deepseek-v3"][1] | index).bfloat16().eval()
    usual = logits_of_steps(model, nullcontext())
    assert torch.equal(logits_of_steps(model, attention_of_products(model)), usual)


@pytest.mark.parametrize("settings", NOT_DECODED.values(), ids=NOT_DECODED)
def test_a_model_that_is_not_decoded_exactly_is_one_error(settings, byte_tokenizer):
    name, fields, why = settings
    model = build(name, fields)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.2)
    dtypes = [torch.float32, *([torch.bfloat16] if why == "log-probs" else [])]
    error = rf"^models of type {model.config.model_type} can be trained, and not sampled by .*{why}.*sampling\.backend"
    for dtype in dtypes:
        for _ in range(2):  # and at every attempt
            with pytest.raises(PrerequisiteError, match=error):
                decode_batch(policy_of(model.to(dtype), byte_tokenizer, ()), [(13, 14), (15,)], ["a", "b"], SAMPLING)


def test_an_adapter_on_a_recurrent_model_is_decoded(byte_tokenizer):
    peft = pytest.importorskip("peft")
    model = build(*PLAIN["qwen3.5"])
    ends = ends_of(model)
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["up_proj"], init_lora_weights=False))
    assert isinstance(model, peft.PeftModel)
    assert not isinstance(model, transformers.PreTrainedModel)
    prompts = [(20, 30, 40), (50,), (50,), (20, 60, 70, 80)]
    keys = list("abcd")
    replies = decode_batch(policy_of(model.eval(), byte_tokenizer, ends), prompts, keys, SAMPLING)
    for prompt, reply, key in zip(prompts, replies, keys, strict=True):
        assert list(reply.token_ids or ()) == by_plain_forward(model, prompt, reply.token_ids or (), key)
