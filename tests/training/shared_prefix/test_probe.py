"""On every architecture the log-probs are those of one sequence at a time, whichever path the probe chooses."""

import copy

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig

from drift.training.batch import StepCollator, per_token_logps
from drift.training.shared_prefix import ATTENTION, choose_packing
from drift.training.tokens import TokenPair

SMALL = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS = {**SMALL, "head_dim": 8}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
GPT2 = {"vocab_size": 128, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
BLOOM = {"vocab_size": 128, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
WINDOW = {"sliding_window": 5}  # shorter than the pairs


def rope(kind: str, **settings) -> dict:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


LONG = rope("longrope", short_factor=[1.0] * 4, long_factor=[2.0] * 4, original_max_position_embeddings=8, factor=32.0)

SHARED = {
    "qwen2": ("Qwen2Config", SMALL),
    "qwen2 with a window": ("Qwen2Config", {**SMALL, **WINDOW, "use_sliding_window": True, "max_window_layers": 1}),
    "qwen3": ("Qwen3Config", HEADS),
    "qwen3-moe": ("Qwen3MoeConfig", {**HEADS, **MOE}),
    "llama": ("LlamaConfig", HEADS),
    "llama with yarn": ("LlamaConfig", {**HEADS, **rope("yarn", factor=4.0, original_max_position_embeddings=64)}),
    "mistral": ("MistralConfig", HEADS),
    "mistral with a window": ("MistralConfig", {**HEADS, **WINDOW}),
    "gemma2": ("Gemma2Config", {**HEADS, **WINDOW}),
    "gemma3": ("Gemma3TextConfig", {**HEADS, **WINDOW}),
    "olmo2": ("Olmo2Config", SMALL),
    "olmo3": ("Olmo3Config", {**SMALL, **WINDOW}),
    "granite": ("GraniteConfig", {**SMALL, "attention_multiplier": 0.3, "logits_scaling": 2.0}),
    "glm4": ("Glm4Config", HEADS),
    "cohere2": ("Cohere2Config", {**HEADS, **WINDOW}),
    "gpt2": ("GPT2Config", {**GPT2, "n_positions": 256, "bos_token_id": 1, "eos_token_id": 2}),
    "neox": ("GPTNeoXConfig", {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}),
    "smollm3": ("SmolLM3Config", SMALL),
    "phi3": ("Phi3Config", SMALL),
    "deepseek-v3": (
        "DeepseekV3Config",
        {**SMALL, **LATENT, **EXPERTS, "num_key_value_heads": 4, "moe_intermediate_size": 32},
    ),
}
PLAIN = {
    "qwen3-next": ("Qwen3NextConfig", {**HEADS, **MOE, **LINEAR, "shared_expert_intermediate_size": 32}),
    "qwen3.5": ("Qwen3_5TextConfig", {**HEADS, **LINEAR}),
    "mamba": ("MambaConfig", {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
    "falcon-h1": (
        "FalconH1Config",
        {**HEADS, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8},
    ),
    "bloom": ("BloomConfig", BLOOM),
    "mpt": ("MptConfig", {"vocab_size": 128, "d_model": 32, "n_layers": 2, "n_heads": 4, "initializer_range": 0.2}),
    "gpt-oss with sinks": ("GptOssConfig", {**HEADS, **WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4 in chunks": ("Llama4TextConfig", {**HEADS, "num_local_experts": 2, "attention_chunk_size": 8}),
    "lfm2 with convolutions": ("Lfm2Config", {**SMALL, "layer_types": ["conv", "full_attention"]}),
    "llama with dynamic rope": ("LlamaConfig", {**HEADS, **rope("dynamic", factor=4.0)}),
    "phi3 with longrope": ("Phi3Config", {**SMALL, **LONG}),
}
# takes position ids in this version of transformers, and so can share; older ones could not
EITHER = {
    "opt": (
        "OPTConfig",
        {
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 128,
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 64,
            "init_std": 0.2,
        },
    ),
}


def build(name: str, settings: dict) -> torch.nn.Module:
    config: PreTrainedConfig = getattr(transformers, name)(**settings)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def ids(count: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, 128, (count,)).tolist())


def pairs() -> list[TokenPair]:
    torch.manual_seed(1)
    return [TokenPair(ids(p), ids(c), ids(r)) for p, c, r in ((20, 9, 12), (3, 15, 1), (11, 1, 7))]


@torch.no_grad()
def one_at_a_time(model: torch.nn.Module, pair: TokenPair) -> torch.Tensor:
    """The model asked plainly: no padding, no position ids, the whole head."""
    found = []
    for reply in (pair.chosen, pair.rejected):
        row = torch.tensor([[*pair.prompt, *reply]])
        logps = model(row).logits[0].float().log_softmax(-1)[:-1].gather(-1, row[0, 1:, None])
        found.append(logps[len(pair.prompt) - 1 :, 0])
    return torch.cat(found)


def check(settings: tuple[str, dict]) -> bool:
    """Returns whether the packed row was chosen."""
    model = build(*settings)
    told = [one_at_a_time(copy.deepcopy(model), pair) for pair in pairs()]
    before = model.config._attn_implementation
    packing = choose_packing(model)
    assert model.config._attn_implementation == (ATTENTION if packing.shared else before)
    assert not model.training
    batches = StepCollator(0, 10_000, packing.shared)(pairs())
    with torch.no_grad():
        found = torch.cat([per_token_logps(model, batch, torch.float32) for batch in batches])
    order = sorted(range(3), key=lambda row: -pairs()[row].length)
    assert torch.allclose(found, torch.cat([told[row] for row in order]), atol=2e-4), packing.why
    assert "\n" not in packing.why
    if packing.head == "kept":
        (batch,) = StepCollator(0, 10_000, True, "again")(pairs())
        assert torch.allclose(per_token_logps(model, batch, torch.float32), found, atol=1e-5)
        assert not any(hasattr(model.config, name) for name in ("logit_scale", "logits_scaling"))
    return packing.shared


@pytest.mark.parametrize("settings", SHARED.values(), ids=SHARED)
def test_the_packed_row_is_exact_and_chosen(settings):
    assert check(settings)


@pytest.mark.parametrize("settings", PLAIN.values(), ids=PLAIN)
def test_the_padded_path_is_taken_where_the_packed_row_is_not_exact(settings):
    assert not check(settings)


@pytest.mark.parametrize("settings", EITHER.values(), ids=EITHER)
def test_nothing_is_wrong_either_way(settings):
    check(settings)
