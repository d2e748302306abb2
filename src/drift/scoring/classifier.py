"""A sequence classifier with one output on a policy's language model: what the feedback reward trains.

It takes over the layers of the loaded policy, in their type and on their device: nothing is copied, and layers in
4 bits stay so. Where the policy is trained as an adapter, so is the classifier: the adapter begins as the policy's own,
the weights beneath it stay as they are, and only the head is trained in full.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from drift.config import ADAPTER_RATE, PolicySettings
from drift.errors import PrerequisiteError
from drift.policy.adapter import training_weights, with_adapter
from drift.policy.model import Policy, load_policy, over_gpus, read_config
from drift.policy.multimodal import auto_class
from drift.policy.padded import pad_id
from drift.policy.source import base_of_adapter, is_adapter, is_gguf

_IN_4_BITS = "is_loaded_in_4bit"
_WEIGHTS, _HEADS = "adapter_model.safetensors", (".score.weight", ".classifier.weight")


def load_start(source: Path | str, settings: PolicySettings) -> Policy:
    """The policy that a classifier starts from: in float32 if all weights will be trained, else in `settings.dtype`."""
    return load_policy(source, settings if is_adapter(source) else training_weights(settings))


def classifier_of(policy: Policy, settings: PolicySettings, seed: int) -> PreTrainedModel | PeftModel:
    """The policy's layers with a new head; with an adapter if the policy has one, or if `policy.lora` asks for one.

    The policy has no adapter afterwards.
    """
    model = with_adapter(policy, settings, seed)
    torch.manual_seed(seed)
    if not isinstance(model, PeftModel):
        return _with_head(model, pad_id(policy))
    adapter, weights = copy.deepcopy(model.peft_config["default"]), get_peft_model_state_dict(model)
    classifier = _with_head(model.unload(), pad_id(policy))  # pyright: ignore[reportArgumentType]
    if sum(any(True for _ in head.parameters()) for head in heads_of(classifier)) > 1:  # peft would save one of them
        raise _no_adapted(classifier)
    adapter.base_model_name_or_path = classifier.name_or_path
    adapter.task_type = "SEQ_CLS"  # for which peft also trains and saves the head
    adapted: Any = get_peft_model(classifier, adapter)
    new = get_peft_model_state_dict(adapted)  # an adapter may also have changed the policy's head, which is gone
    set_peft_model_state_dict(adapted, new | {name: weights[name] for name in new.keys() & weights.keys()})
    return adapted


def usual_rate(model: PreTrainedModel | PeftModel) -> float:
    """The learning rate, if the settings name none."""
    return 3e-5 * (ADAPTER_RATE if isinstance(model, PeftModel) else 1)


def load_adapted(folder: Path, dtype: str, in_4_bits: bool, device: str | None) -> PeftModel:
    """The classifier of an adapter in `folder`, as it was trained. Raises PrerequisiteError if its base is gone."""
    base, placed = base_of_adapter(folder), over_gpus(device)
    settings = PolicySettings.model_validate({"dtype": dtype, "lora": {"quantize": "4bit"} if in_4_bits else None})
    if placed and not is_gguf(base):
        classifier = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, **placed
        )
        pad = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).pad_token_id
        classifier.config.pad_token_id = classifier.config.get_text_config().pad_token_id = pad or 0
    else:
        policy = load_policy(base, settings, device)
        classifier = _with_head(policy.model, pad_id(policy))  # pyright: ignore[reportArgumentType]
    model = PeftModel.from_pretrained(classifier, str(folder))
    head_in(model, getattr(torch, dtype))
    return model


def head_in(model: PreTrainedModel | PeftModel, dtype: torch.dtype) -> None:
    """Give the head of an adapted classifier the type of its layers, which it reads when it scores.

    It is trained in float32, as the adapter is: in bfloat16, most of its updates would be rounded away.
    """
    if isinstance(model, PeftModel):
        for head in heads_of(model.get_base_model()):
            head.to(dtype)


def heads_of(classifier: nn.Module) -> list[nn.Module]:
    """The parts that are not the language model. Most classifiers have one; ModernBERT's has two."""
    return [part for name, part in classifier.named_children() if name != classifier.base_model_prefix]


def _with_head(model: PreTrainedModel, pad_token_id: int) -> PreTrainedModel:
    """A classifier with the layers of this causal language model, and with a head of one output at random."""
    classifier = _empty_classifier(str(model.name_or_path), model.config, type(model.base_model), pad_token_id)
    setattr(classifier, classifier.base_model_prefix, model.base_model)
    classifier.name_or_path = model.name_or_path  # an adapter notes it as its base
    setattr(classifier, _IN_4_BITS, getattr(model, _IN_4_BITS, False))  # peft asks for it
    for head in heads_of(classifier):
        for part in head.to_empty(device=model.device).float().modules():
            classifier._init_weights(part)
    return classifier


def _empty_classifier(
    source: str, config: PreTrainedConfig, layers: type[nn.Module], pad_token_id: int = 0
) -> PreTrainedModel:
    """Without weights. Raises PrerequisiteError if transformers' classifier is not made of such layers."""
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise _no_classifier(source, config)
    config = copy.deepcopy(config)
    config.num_labels = 1
    config.pad_token_id = config.get_text_config().pad_token_id = pad_token_id
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    if type(getattr(classifier, classifier.base_model_prefix)) is not layers:
        raise _no_classifier(source, config)
    return classifier


def check_architecture(source: str) -> None:
    """Raises PrerequisiteError if transformers has no sequence classifier for this kind of model."""
    config = read_config(source)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise _no_classifier(source, config)
    with torch.device("meta"):
        model = auto_class(config).from_config(config, trust_remote_code=False)
    _empty_classifier(source, config, type(model.base_model))


def _no_adapted(classifier: PreTrainedModel) -> PrerequisiteError:
    return PrerequisiteError(
        f"{classifier.name_or_path}: recipe.scorer.name: feedback cannot train a {type(classifier).__name__} as an "
        "adapter, because its head has several parts. Set recipe.scorer.model to a model of another kind (llama, qwen3 "
        "...), or choose another scorer."
    )


def _no_classifier(source: str, config: PreTrainedConfig) -> PrerequisiteError:
    return PrerequisiteError(
        f"{source}: recipe.scorer.name: feedback needs a sequence classifier, and transformers has none for "
        f"{config.model_type}. Set recipe.scorer.model to a model of another kind (llama, qwen3 ...), or choose "
        "another scorer."
    )


def outputs_of_adapter(folder: Path) -> int:
    """How many outputs the head has that an adapter brings; 0 if it brings none. Raises OSError without weights."""
    with safe_open(folder / _WEIGHTS, "pt") as file:
        heads = [name for name in file.keys() if name.endswith(_HEADS)]  # noqa: SIM118
        return int(file.get_slice(heads[0]).get_shape()[0]) if heads else 0
