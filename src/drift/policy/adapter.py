"""A peft adapter: put on a policy that trains, and added to the weights of its base so that any program loads it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import Linear
from transformers import PreTrainedModel

from drift.config import PolicySettings
from drift.errors import PrerequisiteError
from drift.policy.chat.template import token_ids
from drift.policy.model import Policy, load_policy, save_companions
from drift.policy.multimodal import freeze_other_parts, outside_language_model
from drift.progress import report_note

_PROBE = "The quick brown fox jumps over the lazy dog. 1, 2, 3: ja, oui, sí."
"""A text whose logits are compared before and after."""


def training_weights(policy: PolicySettings) -> PolicySettings:
    """The policy's settings with the type of weights in training: float32, unless an adapter is trained."""
    return policy if policy.lora else policy.model_copy(update={"dtype": "float32"})


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
