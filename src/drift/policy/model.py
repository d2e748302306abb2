"""A policy: a causal language model, its tokenizer, and an id that is a hash of its weights."""

import hashlib
import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import torch
import transformers
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import disable_progress_bars
from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from drift.config import PolicySettings
from drift.errors import DriftError, PrerequisiteError
from drift.policy.chat import ChatFormat, TemplateReport, check_template, end_of_turn
from drift.policy.checks import check_template_tokens, check_tokens, check_weights, positions, report_positions
from drift.policy.gguf import config_of_gguf, load_gguf
from drift.policy.multimodal import auto_class, processor_files, template_of
from drift.policy.source import base_of_adapter, is_adapter, is_gguf, no_model, resolve_source
from drift.progress import report_note
from drift.records import Counts, stable_hash

_LOADING_ERRORS = (OSError, ValueError, KeyError, SafetensorError, HFValidationError)
"""What transformers, peft and the hub raise for a model that is missing or damaged."""

_NOT_ASKED = ("_name_or_path", "transformers_version", "dtype")
"""Of a config: where the weights lie, who wrote them, and their type, which is part of `policy_id`."""

EVERY_GPU = "every GPU"
"""A device: all GPUs that the process sees, each with a share of the layers. One GPU or none is as no device named."""


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What prompts and replies depend on besides the weights, wherever the policy runs.

    `context_length`: the length of its longest row, in tokens (`positions`). `stop_ids`: every token that ends a reply.
    `policy_id`: the id of the weights (`weights_id`).
    """

    chat: ChatFormat
    context_length: int
    stop_ids: frozenset[int]
    policy_id: str


@dataclass(frozen=True)
class Policy:
    """`chat`: its tokenizer and chat template, as this run uses them.

    `processor_files`: of a checkpoint that also reads images, by name; saved beside the weights.
    """

    model: PreTrainedModel | PeftModel
    chat: ChatFormat
    policy_id: str
    processor_files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.chat.tokenizer

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def context_length(self) -> int:
        return positions(self.model.config)

    @property
    def facts(self) -> PolicyFacts:
        return PolicyFacts(self.chat, self.context_length, self.stop_ids, self.policy_id)

    @cached_property
    def answers_id(self) -> str:
        """16 hex digits for all that its answers depend on: `model_id`, and today's date if the template shows that."""
        if self.chat.date or not self.chat.for_sampling.template.reads_clock:
            return self.model_id
        return stable_hash(self.model_id, datetime.now().date().isoformat())

    @cached_property
    def model_id(self) -> str:
        """16 hex digits for the weights, their config, and how this run reads and shows a chat. Two policies with the
        same weights and other templates are two models to a user."""
        chat, config = self.chat, json.loads(self.model.config.to_json_string())
        template = chat.for_sampling.template
        day = chat.date if template.reads_clock else None
        shown = (chat.thinking, template.arguments, day, tokenizer_id(self.tokenizer), sorted(self.stop_ids))
        return stable_hash(self.policy_id, {name: config[name] for name in config if name not in _NOT_ASKED}, *shown)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Every token that ends a reply: the template's, the tokenizer's EOS, and those of the generation config."""
        ends = (end_of_turn(self.chat), self.tokenizer.eos_token_id, *_declared_ends(self.model))
        return frozenset(token for token in ends if isinstance(token, int))


def source_of(name: str) -> Path | str:
    """A policy's name as a stage's input: a folder or file, hashed by content, or a hub id, hashed by name."""
    source = resolve_source(name)
    return Path(source) if Path(source).exists() else source


def read_facts(source: Policy | str | Path, settings: PolicySettings) -> PolicyFacts:
    """The facts of a policy that runs elsewhere. Its weights are loaded once, on the CPU, to compute its id."""
    return (source if isinstance(source, Policy) else load_policy(source, settings, "cpu")).facts


def load_policy(source: str | Path, settings: PolicySettings, device: str | None = None) -> Policy:
    """Load a model by name, folder, GGUF file or hub id, in `settings.dtype`, on `device` or the GPU if there is one.

    A GGUF file is never divided over several GPUs: `drift run` unpacks it first.
    For a folder with a peft adapter, its base is loaded too, and the adapter is trainable. No remote code, safetensors
    only. Raises PrerequisiteError if there is no such model, weights are NaN or infinite, or there is no usable chat
    template.
    """
    _be_quiet()
    resolved = resolve_source(source)
    try:
        if is_gguf(resolved):
            _refuse_4_bits(resolved, settings)
            model, tokenizer = load_gguf(Path(resolved), getattr(torch, settings.dtype))
        else:
            tokenizer = AutoTokenizer.from_pretrained(resolved, trust_remote_code=False)
            model = _load_model(resolved, settings, device)
    except _LOADING_ERRORS as error:
        raise no_model(str(source), shorten(str(error), 200, placeholder=" ...")) from None
    check_tokens(model, tokenizer, str(source))
    processor = {} if is_gguf(resolved) else processor_files(resolved)
    tokenizer.chat_template = tokenizer.chat_template or template_of(processor)
    chat = ChatFormat.of(tokenizer, settings, _declared_ends(model))
    _report_template(check_template(chat, str(source)))
    check_template_tokens(model, chat, str(source))
    check_weights(model, str(source))
    report_positions(model.config)
    place(model, device)
    _multiply_head_once(model)
    warn_if_emulated(settings.dtype, model.device.type)
    return identified(model.eval(), chat, processor)


def parameter_count(source: str | Path) -> int:
    """The number of parameters of a model (of its base, for an adapter), from its config alone.

    Raises PrerequisiteError if there is no such model.
    """
    config = read_config(source)
    with _no_model_of(source), torch.device("meta"):
        return auto_class(config).from_config(config, trust_remote_code=False).num_parameters()


def read_config(source: str | Path) -> PreTrainedConfig:
    """A model's config (that of its base, for an adapter). Raises PrerequisiteError if there is no such model."""
    _be_quiet()
    resolved = resolve_source(source)
    with _no_model_of(source):
        base = base_of_adapter(Path(resolved)) if is_adapter(resolved) else resolved
        return (
            config_of_gguf(Path(base)) if is_gguf(base) else AutoConfig.from_pretrained(base, trust_remote_code=False)
        )


@contextmanager
def _no_model_of(source: str | Path) -> Iterator[None]:
    """Raises PrerequisiteError if what is read in the block is no model."""
    try:
        yield
    except _LOADING_ERRORS as error:
        raise no_model(str(source), shorten(str(error), 200, placeholder=" ...")) from None


def identified(
    model: PreTrainedModel | PeftModel, chat: ChatFormat, processor: Mapping[str, bytes] | None = None
) -> Policy:
    """The policy, with the id of its present weights."""
    return Policy(model, chat, weights_id(model), processor or {})


def _declared_ends(model: PreTrainedModel | PeftModel) -> tuple[int, ...]:
    """The tokens that end a reply by the generation config."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    return tuple(declared) if isinstance(declared, list) else () if declared is None else (declared,)


@lru_cache(maxsize=32)
def _report_template(report: TemplateReport) -> None:
    """Once for each template in each process."""
    report_note(report.line())


def weights_id(model: torch.nn.Module) -> str:
    """16 hex digits of sha256 over names, types, shapes and bytes of the weights; independent of their device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def tokenizer_id(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hex digits of sha256 over the vocabulary, its rules and the chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(f"{rules}\n{tokenizer.chat_template}".encode()).hexdigest()[:16]


def unpack(out: Path, source: Path, dtype: Literal["float32", "bfloat16"]) -> Counts:
    """A stage: write the model of a GGUF file as a folder in `dtype`, which vLLM, peft and every later stage load."""
    policy = load_policy(source, PolicySettings(dtype=dtype), "cpu")
    save_policy(policy, out)
    return {"parameters": policy.model.num_parameters()}


def save_policy(policy: Policy, out: Path) -> None:
    """Write a folder that transformers loads: the model, or a peft adapter that names its base, and the tokenizer."""
    policy.model.save_pretrained(str(out))
    save_companions(policy, out)


def save_companions(policy: Policy, out: Path) -> None:
    """Write what a policy's folder holds besides the weights: the tokenizer, and the files of its processor."""
    policy.tokenizer.save_pretrained(out)
    for name, content in policy.processor_files.items():
        (out / name).write_bytes(content)


def over_gpus(device: str | None) -> dict[str, str]:
    """What transformers has to be told so that it divides a model's layers over the GPUs; nothing for other devices."""
    return {"device_map": "balanced"} if device == EVERY_GPU and torch.cuda.device_count() > 1 else {}


def place(model: torch.nn.Module, device: str | None) -> None:
    """Move the model to the device, unless it was loaded over several GPUs. Raises PrerequisiteError if it did not fit
    into those."""
    if device == EVERY_GPU:
        device = None
    parts = set(map(str, devices_of(model)))
    if len(parts) < 2:
        torch.nn.Module.to(model, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    elif outside := parts & {"cpu", "disk"}:
        raise PrerequisiteError(
            f"the model does not fit into the {len(parts - outside)} GPUs of its replica: raise "
            "cluster.gpus_per_replica, or free their memory."
        )


def devices_of(model: torch.nn.Module) -> set[object]:
    """The devices over which transformers divided the model; empty if it is whole."""
    return set((getattr(model, "hf_device_map", None) or {}).values())


def _load_model(source: str, settings: PolicySettings, device: str | None) -> PreTrainedModel | PeftModel:
    has_adapter = is_adapter(source)
    base = base_of_adapter(Path(source)) if has_adapter else source
    dtype = getattr(torch, settings.dtype)
    if is_gguf(base):
        _refuse_4_bits(base, settings)
        model, _ = load_gguf(Path(base), dtype)
    else:
        placed = _in_4_bits(dtype) if settings.lora and settings.lora.quantize else over_gpus(device)
        config = AutoConfig.from_pretrained(base, trust_remote_code=False)
        loaded: Any = auto_class(config).from_pretrained(
            base, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **placed
        )
        model, report = loaded
        if missing := sorted(report["missing_keys"]):  # transformers would train on random numbers in their place
            raise ValueError(f"it has no weights for {len(missing)} of the model's tensors, such as {missing[0]}")
    return PeftModel.from_pretrained(model, source, is_trainable=True) if has_adapter else model


def _multiply_head_once(model: PreTrainedModel | PeftModel) -> None:
    """Hand the head its hidden states as one block of memory.

    Where only the last positions get logits, the states are a slice of all. With a frozen head, as under an adapter,
    PyTorch would then compute one product for each row; in bfloat16 on a CPU it would even copy the head for each.
    """
    head = model.get_output_embeddings()
    if isinstance(head, torch.nn.Module):
        head.register_forward_pre_hook(_in_one_block)


def _in_one_block(_head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(states.contiguous() for states in inputs)


def _refuse_4_bits(file: str, settings: PolicySettings) -> None:
    if settings.lora and settings.lora.quantize:
        raise PrerequisiteError(
            f"{file}: a GGUF file is not loaded in 4 bits again (policy.lora.quantize). `drift run` unpacks it into "
            "RUN/base/model first: name that folder, or set policy.lora.quantize to null."
        )


def _in_4_bits(dtype: torch.dtype) -> dict[str, Any]:
    """QLoRA (arXiv 2305.14314, section 3): 4-bit NormalFloat weights, double quantization. Needs a CUDA GPU."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": quantization, "device_map": {"": torch.cuda.current_device()}}


def _be_quiet() -> None:
    """Switch off the libraries' progress bars and warnings, which would break up the command line's own output."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate)\.")


def computes_bfloat16() -> bool:
    """True if bfloat16 is a type that the GPU or the CPU multiplies by itself; emulated, it would be slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: Mapping[str, Any] = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


@lru_cache(maxsize=2)
def warn_if_emulated(dtype: Literal["float32", "bfloat16"], device: str) -> None:
    """Once in each process, if this is bfloat16 on a processor without it: how slow it is here, and what to set."""
    if dtype == "float32" or device != "cpu" or computes_bfloat16():
        return
    slower = _seconds_of_product(torch.bfloat16) / _seconds_of_product(torch.float32)
    report_note(
        f"this processor has no bfloat16 arithmetic: a matrix product takes about {slower:.0f} times as long as in "
        "float32. Set policy.dtype: float32 (drift run: --set policy.dtype=float32)"
    )


def _seconds_of_product(kind: torch.dtype) -> float:
    """The fastest of three: other work on the machine slows one down by any factor."""
    left, right = torch.ones(256, 512, dtype=kind), torch.ones(512, 512, dtype=kind)
    torch.mm(left, right)  # the first product also loads the code
    times = []
    for _ in range(3):
        began = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - began)
    return min(times)


@contextmanager
def memory_for(what: str, of: str, remedy: str) -> Iterator[None]:
    """Raises DriftError if there is not enough memory for what is computed inside: "WHAT: out of memory in OF; REMEDY".

    Other errors pass.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise DriftError(f"{what}: out of memory in {of}; {remedy}.") from None


@contextmanager
def cpu_threads(wanted: int | None) -> Iterator[int]:
    """Run torch on `wanted` CPU threads, or on its present number of them if None; yields the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield wanted or before
    finally:
        torch.set_num_threads(before)
