"""The rotary encoding of positions (RoPE): what a GGUF file says of it, in the form of a transformers config."""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from drift.policy.gguf.header import Header, read_numbers, unusable

_PART_OF_A_HEAD = {"minimax_m2", "nemotron", "phi3", "qwen3_5_moe_text", "qwen3_5_text", "stablelm"}
"""Model types that rotate the first part of each head if the config says so; others fail in the forward pass."""
_YARN = {
    "rope.scaling.yarn_attn_factor": "attention_factor",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of Llama 3.1 and all that descend from it; only `factor` differs."""


def head_dim(config: PreTrainedConfig) -> int | None:
    """Numbers per attention head; None for a model without attention."""
    heads = getattr(config, "num_attention_heads", None)
    return getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)


def set_rope(config: PreTrainedConfig, left: dict[str, Any], file: Path, header: Header) -> None:
    """Bring the file's settings and factors into `config.rope_parameters`. What is done is taken out of `left`.

    Raises PrerequisiteError for factors of frequencies that no config has.
    """
    every: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if not every:
        return
    own = every.get("full_attention", every)  # llama.cpp scales the positions of layers that see every token
    local = every.get("sliding_attention", own)
    _set_base(own, left, "rope.freq_base", "rope.global.freq_base")
    _set_part(config, own, left, "rope.dimension_count")
    if local is not own:
        _set_base(local, left, "rope.freq_base_swa", "rope.local.freq_base")
        _set_part(config, local, left, "rope.dimension_count_swa")
    _set_scaling(config, own, left)
    long, short = (read_numbers(file, header, f"rope_factors_{kind}.weight") for kind in ("long", "short"))
    if bool(long) != bool(short):
        raise unusable(file, "it has one of rope_factors_long.weight and rope_factors_short.weight without the other")
    if long and short:
        _set_longrope(config, own, long, short, left)
    if factors := read_numbers(file, header, "rope_freqs.weight"):
        _set_llama3(config, own, factors, file)


def _set_base(rope: dict[str, Any], left: dict[str, Any], *names: str) -> None:
    """`names`: that of the format, and Ollama's."""
    for name in names:
        base = left.pop(name, None)
        if base and not math.isclose(base, rope["rope_theta"], rel_tol=1e-6):
            rope["rope_theta"] = base


def _set_part(config: PreTrainedConfig, rope: dict[str, Any], left: dict[str, Any], name: str) -> None:
    """How many numbers of a head are rotated."""
    rotated, whole = left.get(name), head_dim(config)
    if not rotated or not whole:
        return
    part = rotated / whole
    if int(part * whole) != rotated:  # transformers rounds down
        part = math.nextafter(part, 1)
    if rope.get("partial_rotary_factor", 1.0) == part:
        del left[name]
    elif config.model_type in _PART_OF_A_HEAD:
        rope["partial_rotary_factor"] = part
        del left[name]


def _set_scaling(config: PreTrainedConfig, rope: dict[str, Any], left: dict[str, Any]) -> None:
    """Linear and YaRN scaling. Other kinds stay in `left`."""
    names = ("rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", *_YARN)
    kind, factor, old_factor, *_ = (left.get(name) for name in names)
    factor = factor or old_factor or 0
    kind = kind or ("linear" if factor else "none")  # as llama.cpp does
    if kind in ("linear", "yarn") and factor not in (0, 1):
        if config.model_type == "phi3":  # its config has longrope alone
            return
        rope.update(rope_type=kind, factor=factor)
        if kind == "yarn":
            original = left.get("rope.scaling.original_context_length") or config.max_position_embeddings
            rope["original_max_position_embeddings"] = original
            rope.update({field: left[name] for name, field in _YARN.items() if name in left})
    elif kind not in ("linear", "none", "yarn"):
        return
    for name in names:
        left.pop(name, None)


def _set_longrope(
    config: PreTrainedConfig, rope: dict[str, Any], long: list[float], short: list[float], left: dict[str, Any]
) -> None:
    """Phi-3's factors of frequencies: one list up to the original length, and one beyond it."""
    original = left.get("rope.scaling.original_context_length") or config.max_position_embeddings
    attention_factor = left.pop("rope.scaling.attn_factor", None)
    if left.get("rope.scaling.type") == "longrope":
        del left["rope.scaling.type"]
    rope.update(rope_type="longrope", long_factor=long, short_factor=short, original_max_position_embeddings=original)
    if hasattr(config, "original_max_position_embeddings"):
        config.original_max_position_embeddings = original
    stretch = config.max_position_embeddings / original
    usual = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    if attention_factor and not math.isclose(attention_factor, usual, rel_tol=1e-6):
        rope["attention_factor"] = attention_factor


def _set_llama3(config: PreTrainedConfig, rope: dict[str, Any], factors: list[float], file: Path) -> None:
    """Llama 3.1's factors of frequencies, of which the config has the rule."""
    if set(factors) == {1.0}:
        return
    if rope is config.rope_parameters and rope["rope_type"] == "default":
        changed = deepcopy(config)
        changed.rope_parameters = {**rope, **_LLAMA3, "rope_type": "llama3", "factor": max(factors)}
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](changed, torch.device("cpu"))
        wanted = rope["rope_theta"] ** (-torch.arange(len(factors)) / len(factors)) / torch.tensor(factors)
        if scaled.shape == wanted.shape and torch.allclose(scaled, wanted, rtol=1e-4, atol=0):
            rope.update(changed.rope_parameters)
            return
    raise unusable(file, f"no RoPE scaling of {type(config).__name__} gives the factors in its rope_freqs.weight")
