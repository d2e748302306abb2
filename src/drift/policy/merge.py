"""Add a peft adapter to the weights of its base, so that any program loads the policy as one model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel

from drift.config import PolicySettings
from drift.errors import PrerequisiteError
from drift.policy.chat.template import token_ids
from drift.policy.model import ADAPTER, Policy, load_policy, save_companions

_PROBE = "The quick brown fox jumps over the lazy dog. 1, 2, 3: ja, oui, sí."
"""A text whose logits are compared before and after."""


@dataclass(frozen=True, slots=True)
class Merged:
    """`difference`: the largest difference of a logit between adapter and merged weights, on a short fixed text."""

    parameters: int
    difference: float


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).is_file()


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
