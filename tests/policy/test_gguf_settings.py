"""What a GGUF file says of its model arrives in the config, or the file is refused, or one line says what is left."""

import math
from pathlib import Path

import pytest
import torch
import transformers

from drift.config import PolicySettings
from drift.errors import PrerequisiteError
from drift.policy.gguf import config_of_gguf
from drift.policy.model import load_policy, read_config, unpack
from drift.progress import listening
from gguf_models import SIZES, write_model

pytest.importorskip("gguf", reason="GGUF files need pip install gguf")
TOKENS = 40
RMS, LAYER = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
HEADS_OF_32 = {"attention.key_length": 32, "attention.value_length": 32}
GEMMA = {RMS: 1e-6, **HEADS_OF_32, "attention.sliding_window": 8}


def rope(kind: str = "default", theta: float = 10_000.0, **values) -> dict:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **values}}


def llama3_factors(count: int, theta: float, factor: float) -> list[float]:
    """As the converter computes them for Llama 3.1: 8,192 tokens, 1 and 4 turns."""
    turns = [8192 * theta ** (-n / count) / (2 * math.pi) for n in range(count)]
    smooth = [min(max((turn - 1) / 3, 0), 1) for turn in turns]
    return [1 / ((1 - part) / factor + part) for part in smooth]


LONG, SHORT = [1.0 + n for n in range(6)], [1.0 + n / 8 for n in range(6)]
CASES = {
    "linear": (
        "llama",
        "Llama",
        rope("linear", factor=4.0),
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        {},
    ),
    "linear of 2023": ("llama", "Llama", rope("linear", factor=4.0), {"rope.scale_linear": 4.0}, {}),
    "Llama 3.1": (
        "llama",
        "Llama",
        rope(
            "llama3", 5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
        ),
        {"rope.freq_base": 5e5},
        {"rope_freqs": llama3_factors(8, 5e5, 8.0)},
    ),
    "biases": ("llama", "Llama", {"attention_bias": True, "mlp_bias": True}, {}, {}),
    "wide heads": ("llama", "Llama", {"head_dim": 32}, {"rope.dimension_count": 32, **HEADS_OF_32}, {}),
    "YaRN": (
        "qwen2",
        "Qwen2",
        rope("yarn", 1e6, factor=4.0, original_max_position_embeddings=16),
        {
            "rope.freq_base": 1e6,
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 16,
        },
        {},
    ),
    "YaRN with all its settings": (
        "qwen3",
        "Qwen3",
        {
            "head_dim": 32,
            **rope(
                "yarn",
                factor=2.0,
                original_max_position_embeddings=16,
                attention_factor=1.5,
                beta_fast=8.0,
                beta_slow=2.0,
            ),
        },
        {
            **HEADS_OF_32,
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 2.0,
            "rope.scaling.original_context_length": 16,
            "rope.scaling.yarn_attn_factor": 1.5,
            "rope.scaling.yarn_beta_fast": 8.0,
            "rope.scaling.yarn_beta_slow": 2.0,
        },
        {},
    ),
    "a part of each head": ("phi3", "Phi3", rope(partial_rotary_factor=0.75), {"rope.dimension_count": 12}, {}),
    "another part": (
        "stablelm",
        "StableLm",
        {"layer_norm_eps": 1e-3, **rope(theta=5000.0, partial_rotary_factor=0.5)},
        {LAYER: 1e-3, "rope.freq_base": 5000.0, "rope.dimension_count": 8, "use_parallel_residual": True},
        {},
    ),
    "epsilon": (
        "nemotron",
        "Nemotron",
        {"norm_eps": 1e-2, **rope(partial_rotary_factor=0.75)},
        {LAYER: 1e-2, "rope.dimension_count": 12, "rope.scaling.type": "none"},
        {},
    ),
    "LongRoPE beyond its length": (
        "phi3",
        "Phi3",
        {
            "original_max_position_embeddings": 16,
            **rope("longrope", long_factor=LONG, short_factor=SHORT, partial_rotary_factor=0.75),
        },
        {
            "rope.dimension_count": 12,
            "rope.scaling.original_context_length": 16,
            "rope.scaling.attn_factor": math.sqrt(1 + math.log(64) / math.log(16)),
        },
        {"rope_factors_long": LONG, "rope_factors_short": SHORT},
    ),
    "LongRoPE within it, with a scale of its own": (
        "phi3",
        "Phi3",
        {
            "original_max_position_embeddings": 512,
            **rope("longrope", long_factor=LONG, short_factor=SHORT, attention_factor=1.25, partial_rotary_factor=0.75),
        },
        {"rope.dimension_count": 12, "rope.scaling.original_context_length": 512, "rope.scaling.attn_factor": 1.25},
        {"rope_factors_long": LONG, "rope_factors_short": SHORT},
    ),
    "window": ("phi3", "Phi3", {"sliding_window": 8}, {"attention.sliding_window": 8}, {}),
    "base": (
        "starcoder2",
        "Starcoder2",
        {"norm_epsilon": 1e-3, "num_key_value_heads": 4, **rope(theta=1e5)},
        {LAYER: 1e-3, "attention.head_count_kv": 4, "rope.freq_base": 1e5},
        {},
    ),
    "multi-query": (
        "falcon",
        "Falcon",
        {"layer_norm_epsilon": 1e-2},
        {LAYER: 1e-2, "attention.head_count_kv": 1, "feed_forward_length": 256, "tensor_data_layout": "jploski"},
        {},
    ),
    "softcaps": (
        "gemma2",
        "Gemma2",
        {
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 8,
            "attn_logit_softcapping": 0.5,
            "final_logit_softcapping": 2.0,
        },
        {**GEMMA, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0},
        {},
    ),
    "scale of Gemma 2 27B": (
        "gemma2",
        "Gemma2",
        {"num_hidden_layers": 46, "head_dim": 32, "query_pre_attn_scalar": 16, "sliding_window": 8},
        {**GEMMA, "block_count": 46, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        {},
    ),
    "Gemma 3 of 4B and more": (
        "gemma3",
        "Gemma3",
        {
            "num_hidden_layers": 6,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            },
        },
        {
            **GEMMA,
            "block_count": 6,
            "rope.freq_base": 1e6,
            "rope.freq_base_swa": 500.0,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
            "attention.sliding_window_pattern": [True, True, False] * 2,
        },
        {},
    ),
    "experts": (
        "qwen2moe",
        "Qwen2Moe",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 48,
        },
        {
            "expert_count": 4,
            "expert_used_count": 2,
            "expert_weights_norm": True,
            "expert_feed_forward_length": 32,
            "expert_shared_feed_forward_length": 48,
        },
        {},
    ),
}


def tiny_model(name: str, tokens: int, values: dict) -> transformers.PreTrainedModel:
    """Random, with norms and biases that differ from those of an untrained model."""
    config = getattr(transformers, f"{name}TextConfig" if name == "Gemma3" else f"{name}Config")
    ids = {"vocab_size": tokens, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config(**{**SIZES, **ids, **values})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight += 0.2 * torch.randn_like(weight)
    return model


_, _, GEMMA_3, AS_CONVERTED, _ = CASES["Gemma 3 of 4B and more"]
AS_OLLAMA_WRITES = {
    {"rope.freq_base": "rope.global.freq_base", "rope.freq_base_swa": "rope.local.freq_base"}.get(name, name): value
    for name, value in AS_CONVERTED.items()
} | {"final_logit_softcapping": 30.0}  # which the model does not have
CASES["Gemma 3 as Ollama writes it"] = ("gemma3", "Gemma3", GEMMA_3, AS_OLLAMA_WRITES, {})


def logps(model, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids).logits.log_softmax(-1)


SLOW = {"scale of Gemma 2 27B"}  # 46 layers, by which it is known


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES])
def test_the_policy_computes_what_the_model_of_the_file_did(case, tiny_policy, tmp_path):
    architecture, name, values, fields, tensors = CASES[case]
    tokens = read_config(tiny_policy).vocab_size
    model = tiny_model(name, tokens, values)
    fields = {RMS: model.config.rms_norm_eps, **fields} if hasattr(model.config, "rms_norm_eps") else fields
    file = write_model(tmp_path / "m.gguf", model, architecture, tiny_policy, fields, **tensors)
    ids = torch.randint(tokens, (1, TOKENS))
    expected = logps(model, ids)
    assert torch.equal(logps(load_policy(file, PolicySettings()).model, ids), expected)
    unpack(tmp_path / "folder", file, "float32")
    assert torch.equal(logps(load_policy(tmp_path / "folder", PolicySettings()).model, ids), expected)


@pytest.fixture(scope="module")
def llama(tiny_policy):
    return tiny_model("Llama", read_config(tiny_policy).vocab_size, {"rms_norm_eps": 1e-6})


def write_llama(path: Path, llama, tokenizer: Path, fields: dict, **tensors) -> Path:
    return write_model(path / "m.gguf", llama, "llama", tokenizer, {RMS: 1e-6, **fields}, **tensors)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"logit_scale": 8.0}, "transformers has no LlamaConfig with logit_scale = 8.0"),
        ({"attention.causal": False}, "no LlamaConfig with attention.causal = False"),
        ({"expert_count": 8, "expert_used_count": 2}, "no LlamaConfig with expert_count = 8, expert_used_count = 2"),
        ({"rope.dimension_count": 8, "attention.key_length": 16}, "no LlamaConfig with rope.dimension_count = 8"),
        ({"rope.scaling.type": "longrope"}, "no LlamaConfig with rope.scaling.type = longrope"),
        ({"attention.clamp_kqv": 8.0}, "no LlamaConfig with attention.clamp_kqv = 8.0"),
        ({"rope.freq_base": "ten"}, "the GGUF file cannot be loaded"),
    ],
)
def test_a_setting_that_transformers_does_not_have_is_refused(llama, tiny_policy, tmp_path, fields, why):
    file = write_llama(tmp_path, llama, tiny_policy, fields)
    for load in (config_of_gguf, lambda file: load_policy(file, PolicySettings())):
        with pytest.raises(PrerequisiteError, match=why) as error:
            load(file)
        assert "Set policy.model to another GGUF file" in str(error.value)
        assert "\n" not in str(error.value)


def test_factors_and_weights_that_have_no_place_are_refused(llama, tiny_policy, tmp_path):
    file = write_llama(tmp_path, llama, tiny_policy, {}, rope_freqs=[1.0] * 4 + [3.0] * 4)
    with pytest.raises(PrerequisiteError, match=r"no RoPE scaling of LlamaConfig gives the factors in its rope_freqs"):
        load_policy(file, PolicySettings())
    file = write_llama(tmp_path, llama, tiny_policy, {}, **{"blk.0.attn_q_norm": [0.5] * 16})
    with pytest.raises(PrerequisiteError, match=r"LlamaForCausalLM has no place for 16 of the numbers in its tensors"):
        load_policy(file, PolicySettings())


def test_a_setting_that_changes_nothing_is_none(llama, tiny_policy, tmp_path):
    fields = {
        "logit_scale": 1.0,
        "residual_scale": 0.0,
        "attention.causal": True,
        "expert_count": 0,
        "vocab_size": 259,
        "rope.scaling.type": "none",
        "rope.scaling.factor": 4.0,
        "rope.dimension_count": 16,
        "attention.sliding_window": 0,
    }
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        plain, same = (
            config_of_gguf(write_llama(tmp_path, llama, tiny_policy, values)).to_dict() for values in ({}, fields)
        )
    assert (plain, notes) == (same, [])


def test_what_is_not_read_is_noted_in_one_line(llama, tiny_policy, tmp_path):
    file = write_llama(tmp_path, llama, tiny_policy, {"attention.sliding_window": 64, "vision.block_count": 27})
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        config_of_gguf(file)
    assert notes == [
        f"{file}: transformers reads no attention window for a LlamaConfig, so beyond 64 tokens "
        "(attention.sliding_window) the model differs from that of the file",
        f"{file}: not read, because the GGUF format does not define it: vision.block_count = 27",
    ]
