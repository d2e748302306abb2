"""Checkpoints that also read images or sound: their language model is trained, all other parts stay as they are.

A checkpoint is loaded as the class that its config names, so that a saved policy is again a checkpoint of that class,
with every weight of the other parts unchanged and with the processor's files beside them.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.utils.hub import cached_file

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",  # earlier checkpoints keep the processor's template here, beside the tokenizer's
)


def auto_class(config: PreTrainedConfig) -> Any:
    """The Auto class that loads the whole checkpoint.

    AutoModelForCausalLM does not know some of them (Qwen2.5-VL), and of others (Qwen3.5) it loads the language model
    alone, without a word.
    """
    model_type, named = config.model_type, config.architectures or ()
    whole = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(model_type)
    if whole is not None and (whole in named or (not named and model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)):
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def language_model(model: PreTrainedModel) -> str | None:
    """The name of the language model inside a checkpoint that has other parts too; None for a text model."""
    if model.config.get_text_config() is model.config:
        return None
    decoder = model.get_decoder()
    return next((name for name, module in model.named_modules() if name and module is decoder), None)


def freeze_other_parts(model: PreTrainedModel) -> int:
    """Exclude every weight outside the language model and its head from training; returns how many numbers they are.

    They get no gradient from text, but weight decay would shrink them, and several processes wait for their gradients.
    """
    inner = language_model(model)
    if inner is None:
        return 0
    head = model.get_output_embeddings()
    trained = {*model.get_submodule(inner).parameters(), *(head.parameters() if isinstance(head, nn.Module) else ())}
    frozen = [weight for weight in model.parameters() if weight not in trained]
    for weight in frozen:
        weight.requires_grad_(False)
    return sum(weight.numel() for weight in frozen)


def outside_language_model(model: PreTrainedModel) -> str | None:
    """A regular expression for the names of all modules that an adapter leaves alone; None for a text model."""
    inner = language_model(model)
    return None if inner is None else rf"(?!{re.escape(inner)}\.).*"


def processor_files(source: str) -> Mapping[str, bytes]:
    """The processor's files of a folder or hub id, by name; those that are no JSON object are left out."""
    files: dict[str, bytes] = {}
    for name in PROCESSOR_FILES:
        path = cached_file(
            source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None and _is_object(content := Path(path).read_bytes()):
            files[name] = content
    return files


def template_of(processor: Mapping[str, bytes]) -> str | None:
    """The chat template that the processor's files hold: some checkpoints (LLaVA, Idefics 3) have no other."""
    template = json.loads(processor.get("chat_template.json", b"{}")).get("chat_template")
    return template if isinstance(template, str) else None


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False
