"""Tiny random models of the architectures that docs/training.md names, by the path on which they are trained."""

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

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


LONG = {
    **rope("longrope", short_factor=[1.0] * 4, long_factor=[2.0] * 4, factor=32.0),
    # Phi3Config reads it here and not in rope_parameters; the longest row that is allowed
    "original_max_position_embeddings": 32,
}

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


def build(name: str, settings: dict) -> PreTrainedModel:
    config: PreTrainedConfig = getattr(transformers, name)(**settings)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()
