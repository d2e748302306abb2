"""A peft adapter: put on a policy that trains, and added to the weights of its base so that any program loads it."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from torch.nn import Linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from drift.config import PolicySettings
from drift.errors import ConfigError, PrerequisiteError
from drift.policy.chat.template import token_ids
from drift.policy.model import Policy, load_policy, read_config, save_companions
from drift.policy.multimodal import auto_class, freeze_other_parts, outside_language_model
from drift.policy.source import is_adapter, no_model
from drift.progress import report_note

_PROBE = "The quick brown fox jumps over the lazy dog. 1, 2, 3: ja, oui, sí."
"""A text whose logits are compared before and after."""


def training_weights(policy: PolicySettings) -> PolicySettings:
    """The policy's settings with the type of weights in training: float32, unless an adapter is trained."""
    return policy if policy.lora else policy.model_copy(update={"dtype": "float32"})


def check_adapter(source: Path | str, settings: PolicySettings) -> None:
    """Raises ConfigError if this is an adapter and `policy.lora` asks for another one. It is trained further as it is,
    so the config would say what is not so."""
    if settings.lora is None or not is_adapter(source):
        return
    config = read_config(source)
    with torch.device("meta"):
        model = auto_class(config).from_config(config, trust_remote_code=False)
    try:
        adapter: Any = PeftConfig.from_pretrained(str(source))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise no_model(str(source), shorten(str(error), 200, placeholder=" ...")) from None
    wanted = {"r": settings.lora.r, "alpha": settings.lora.alpha, "target_modules": settings.lora.target_modules}
    present = {"r": getattr(adapter, "r", None), "alpha": getattr(adapter, "lora_alpha", None)}
    present["target_modules"] = _target_modules(model, adapter, settings.lora.target_modules)
    for name, value in wanted.items():
        if value != present[name]:
            has = _shown(present[name])
            raise ConfigError(
                f"policy.lora.{name}: {_shown(value)}, but the adapter {source} has {has}, and it is trained further "
                f"as it is. Set policy.lora=null, or policy.lora.{name}={has}. For an adapter with other settings, "
                "start from a whole model: drift export RUN --merge --to DIR."
            )


def _target_modules(model: PreTrainedModel, adapter: Any, wanted: str | list[str]) -> str | list[str]:
    """`wanted` if that means the layers of the adapter, whose file may name them in other words; else as they are
    there."""
    parts = {name: part for name, part in model.named_modules() if name}
    if wanted == "all-linear":
        head = model.get_output_embeddings()
        meant = [name for name, part in parts.items() if isinstance(part, Linear | Conv1D) and part is not head]
    else:
        meant = [name for name in parts if any(f".{name}".endswith(f".{each}") for each in wanted)]
    outside = re.compile(outside_language_model(model) or r"(?!)")
    layers = {name for name in meant if not outside.fullmatch(name)}
    if layers == {name for name in parts if check_target_module_exists(adapter, name)}:
        return wanted
    modules = getattr(adapter, "target_modules", None) or "none"
    return modules if isinstance(modules, str) else sorted(modules)


def _shown(value: object) -> str:
    """As it is written in a config."""
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def with_adapter(policy: Policy, settings: PolicySettings, seed: int) -> PreTrainedModel | PeftModel:
    """The model to train: as it is, or with a new adapter if `policy.lora` is set and it has none yet."""
    if isinstance(policy.model, PeftModel):
        return policy.model
    if settings.lora is None:
        if frozen := freeze_other_parts(policy.model):
            report_note(f"{frozen:,} weights outside the language model are kept as they are")
        return policy.model
    torch.manual_seed(seed)
    adapter = LoraConfig(
        r=settings.lora.r,
        lora_alpha=settings.lora.alpha,
        target_modules=settings.lora.target_modules,
        exclude_modules=outside_language_model(policy.model),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(policy.model, adapter)  # pyright: ignore[reportReturnType]
    except ValueError:
        if settings.lora.target_modules == "all-linear":
            raise
        decoder = policy.model.get_decoder()
        names = sorted({name.rpartition(".")[2] for name, part in decoder.named_modules() if isinstance(part, Linear)})
        raise PrerequisiteError(
            f"policy.lora.target_modules: no layer of the language model is named {settings.lora.target_modules}; its "
            f"linear layers are {', '.join(names)}, and all-linear means all of them."
        ) from None


@dataclass(frozen=True, slots=True)
class Merged:
    """`difference`: the largest difference of a logit between adapter and merged weights, on a short fixed text."""

    parameters: int
    difference: float


def merge_adapter(folder: Path, out: Path, dtype: Literal["float32", "bfloat16"]) -> Merged:
    """Write `out`: the base of the adapter in `folder` with the adapter in its weights, in `dtype`, and the tokenizer.

    It runs on the CPU and holds the base once in memory. An adapter that was trained on a base in 4 bits is merged into
    the base's own weights: 4-bit weights cannot take up the change. Raises PrerequisiteError if a merged weight is NaN
    or infinite, and as `load_policy` does.
    """
    policy = load_policy(folder, PolicySettings(dtype=dtype), "cpu")
    if not isinstance(policy.model, PeftModel):
        raise PrerequisiteError(f"{folder}: not an adapter, so there is nothing to merge. Export it without --merge.")
    before = _logits(policy)
    try:
        model = policy.model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise PrerequisiteError(f"{folder}: cannot be merged ({error}). Export it without --merge.") from None
    merged = Policy(model, policy.chat, "", policy.processor_files)
    difference = float((_logits(merged) - before).abs().max())
    model.save_pretrained(str(out))
    save_companions(merged, out)
    return Merged(model.num_parameters(), difference)


@torch.inference_mode()
def _logits(policy: Policy) -> torch.Tensor:
    """float32 [tokens of the probe, vocabulary]."""
    ids = torch.tensor([token_ids(policy.tokenizer, _PROBE)])
    return policy.model(input_ids=ids).logits[0].float()
