"""Settings of a GGUF file that change what the model computes, brought into the config that transformers made of it.

transformers reads some of them for each architecture and drops the others without a word. Here every setting of the
file is set, or does not matter, or the file is refused.
"""

from math import isclose
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from drift.policy.gguf.header import Header, unusable
from drift.policy.gguf.rope import head_dim, set_rope
from drift.progress import report_note

_Settings = dict[str, Any]
"""Metadata of the file's architecture, by their names without it."""
_NAMES = {
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads"),
    "attention.key_length": ("head_dim",),
    "attention.value_length": (),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_weights_norm": ("norm_topk_prob",),
    "norm_top_k_prob": ("norm_topk_prob",),  # Ollama's name
    "expert_weights_scale": ("routed_scaling_factor",),
}
"""What a setting may be called in a config."""
_SHAPES = {
    *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size", "tensor_data_layout"),
    *("expert_feed_forward_length", "expert_shared_count", "expert_shared_feed_forward_length"),
    *("full_attention_interval", "leading_dense_block_count", "nextn_predict_layers", "use_parallel_residual"),
    *("rope.dimension_sections", "rope.scaling.finetuned", "rope.scaling.original_context_length", "pooling_type"),
    *("ssm.conv_kernel", "ssm.group_count", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank"),
    "shortconv.l_cache",
}
"""Of no weight for what is computed, or a wrong one shows in the weights: their shapes or names would not fit."""
_NEUTRAL = {
    "attention.causal": (True,),
    **dict.fromkeys(("expert_gating_func", "expert_group_count", "expert_group_used_count"), (0, 1)),  # 1: softmax
    **dict.fromkeys(("embedding_scale", "expert_weights_scale", "logit_scale", "residual_scale"), (0, 1)),
    **dict.fromkeys(("rope.scaling.attn_factor", "rope.scaling.yarn_ext_factor"), (0, 1)),
    "rope.scaling.type": ("none",),
}
"""The values with which a setting changes nothing; for all others these are 0 and false."""
_WINDOW_IN_LAYER_TYPES = {"gemma2", "gemma3_text", "gpt_oss"}
_WINDOW_EVERYWHERE = {"mistral", "phi3", "starcoder2"}
_LAYERS_OF_27B = {"gemma2": 46, "gemma3_text": 62}
_BIASES = {"attn_q.bias": "attention_bias", "ffn_up.bias": "mlp_bias"}


def complete_config(config: PreTrainedConfig, file: Path, header: Header) -> PreTrainedConfig:
    """The config with what the file says and transformers did not read.

    Raises PrerequisiteError if the file has a setting that transformers' model cannot have, and anything for values
    that make no config.
    """
    if getattr(config, "is_heterogeneous", False):  # Gemma 4, of which transformers reads a part of the file's settings
        raise unusable(file, f"the layers of a {type(config).__name__} differ, and transformers reads one size for all")
    left = dict(header.settings)
    if config.model_type == "gemma3_text" and {"rope.global.freq_base", "rope.local.freq_base"} & left.keys():
        left.pop("final_logit_softcapping", None)  # Ollama, which names the bases so, writes 30; Gemma 3 has none
    defaults = type(config)()
    for name, candidates in _NAMES.items():
        _set(config, left, name, next((field for field in candidates if hasattr(defaults, field)), None))
    set_rope(config, left, file, header)
    _set_window(config, left, file)
    _set_gemma_scale(config)
    for ending, field in _BIASES.items():
        if hasattr(defaults, field) and any(tensor.name.endswith(ending) for tensor in header.tensors):
            setattr(config, field, True)
    if getattr(config, "scoring_func", None):  # transformers reads the file's number as the name of the function
        left.pop("expert_gating_func", None)
    _refuse_unread({name: value for name, value in left.items() if not _neutral(name, value)}, config, file)
    type(config).from_dict(config.to_dict())  # raises if what is written to config.json cannot be read again
    return config


def _set(config: PreTrainedConfig, left: _Settings, name: str, field: str | None) -> None:
    """Set `field` to the file's value, unless it has that value already, as far as 32 bits can say."""
    value = left.get(name)
    if isinstance(value, list) and len(kinds := set(value) - {0}) == 1:  # one for each layer
        value = kinds.pop()
    if value is None or isinstance(value, list):
        return
    now = getattr(config, field, None) if field else _implied(config, name)
    if now != value and not (isinstance(now, float) and isclose(now, value, rel_tol=1e-6)):
        if field is None:
            return
        setattr(config, field, value)
    del left[name]


def _implied(config: PreTrainedConfig, name: str) -> int | None:
    """What a config without a field for a setting computes with."""
    if name in ("attention.key_length", "attention.value_length"):
        return head_dim(config)
    return getattr(config, "num_attention_heads", None) if name == "attention.head_count_kv" else None


def _set_window(config: PreTrainedConfig, left: _Settings, file: Path) -> None:
    """How many tokens a token sees, and in which layers it sees all."""
    window = left.pop("attention.sliding_window", None)
    pattern = left.pop("attention.sliding_window_pattern", None)
    if not window:  # 0: every token sees all
        return
    if config.model_type in _WINDOW_EVERYWHERE | _WINDOW_IN_LAYER_TYPES:
        config.sliding_window = window
    elif window < config.max_position_embeddings:
        report_note(
            f"{file}: transformers reads no attention window for a {type(config).__name__}, so beyond {window} tokens "
            "(attention.sliding_window) the model differs from that of the file"
        )
    if pattern is None or config.model_type not in _WINDOW_IN_LAYER_TYPES:
        return
    layers = range(config.num_hidden_layers)
    slides = pattern if isinstance(pattern, list) else [bool((layer + 1) % pattern) for layer in layers]
    types = ["sliding_attention" if slide else "full_attention" for slide in slides]
    if types != config.layer_types:
        config.layer_types = types


def _set_gemma_scale(config: PreTrainedConfig) -> None:
    """No file has Gemma's attention scale: llama.cpp has this rule for it, and transformers the value of most sizes."""
    if config.model_type in _LAYERS_OF_27B:
        is_27b = config.num_hidden_layers == _LAYERS_OF_27B[config.model_type]
        scalar = config.hidden_size // config.num_attention_heads if is_27b else config.head_dim
        config.query_pre_attn_scalar = scalar


def _neutral(name: str, value: object) -> bool:
    """Whether a setting of this value changes nothing."""
    nothing = not any(value) if isinstance(value, list) else value in _NEUTRAL.get(name, (0,))
    return name in _SHAPES or nothing


def _refuse_unread(unread: _Settings, config: PreTrainedConfig, file: Path) -> None:
    """Refuse settings that the format defines. Others (Ollama writes those of an image tower) are noted."""
    from gguf import Keys

    defined = {
        key.removeprefix("{arch}.")
        for group in (Keys.LLM, Keys.Attention, Keys.Rope, Keys.SSM)
        for key in vars(group).values()
        if isinstance(key, str)
    }
    listed = [f"{name} = {value}" for name, value in sorted(unread.items())]
    if meant := [text for text, name in zip(listed, sorted(unread), strict=True) if name in defined]:
        raise unusable(file, f"transformers has no {type(config).__name__} with {', '.join(meant)}")
    if listed:
        rest = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        report_note(f"{file}: not read, because the GGUF format does not define it: {', '.join(listed[:5])}{rest}")
