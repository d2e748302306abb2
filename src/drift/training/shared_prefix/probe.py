"""Does this model compute packed rows exactly? Checked for every model at load, by rules and by numbers.

Some models accept a packed row and compute wrong log-probs: recurrent layers carry C over into R, position biases count
indices of the row. So packed rows are used only if every rule holds AND two tiny pairs get the same log-probs as one
sequence at a time. Otherwise padded rows are used, which every model computes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel

from drift.policy.model import devices_of
from drift.policy.padded import PaddedRows, padded_logps
from drift.training.shared_prefix.attention import NAME, NAME_VARLEN, shared_prefix_attention, varlen_attention
from drift.training.shared_prefix.head import HeadChoice
from drift.training.shared_prefix.layout import Layout, PackedRow, packed_logps
from drift.training.tokens import TokenPair

AttentionInterface.register(NAME, shared_prefix_attention)
AttentionInterface.register(NAME_VARLEN, varlen_attention)

STATIC_ROPE = {"default", "linear", "llama3", "yarn", "proportional"}
"""Rotary embeddings whose frequencies do not depend on the length of the row."""
LAYER_TYPES = {"full_attention", "sliding_attention"}

TOLERANCE_NATS = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Mean difference per token that is allowed. In float32, exact models are at 2e-6 and wrong ones at 0.4."""
TOLERANCE_SHARE = {torch.float32: 1e-2, torch.bfloat16: 0.25, torch.float16: 0.25}
"""The same as a share of the difference that R seeing C makes: in barely trained models every difference is small."""


@dataclass(frozen=True, slots=True)
class Packing:
    """`shared`: the model computes packed rows, and its attention is switched to them. `why`: one line for people.

    `head`: `kept` if its logits are exactly the output of its head, so that head.py may compute them; else `model`.
    """

    shared: bool
    head: HeadChoice
    why: str


def choose_packing(model: torch.nn.Module) -> Packing:
    """Switch the model's attention to packed rows if it computes them exactly; otherwise leave it as it was."""
    base = base_model(model)
    if base is None:
        return _padded("it is not a transformers model")
    objection = _objection_of_rules(base)
    if objection is not None:
        return _padded(objection)
    before = str(base.config._attn_implementation)
    if before in (NAME, NAME_VARLEN):  # switched by an earlier call; the probe compares with padded rows
        base.set_attn_implementation("sdpa")
    with _evaluating(model):
        probe = _Probe.of(model, base)
        objection = _switch(base, NAME) or probe.objection(torch.float32)
        if objection is not None:
            base.set_attn_implementation(before)
            return _padded(objection)
        head = "kept" if probe.objection(torch.float32, "kept") is None else "model"
        kernel = _take_kernel(base, probe) if base.device.type == "cuda" else ""
    return Packing(True, head, f"prompts are computed once for both completions (packed rows{kernel}, checked)")


def _take_kernel(model: PreTrainedModel, probe: "_Probe") -> str:
    """Switch to CUDA's kernel for sequences of different lengths, if it exists and is right."""
    if _switch(model, NAME_VARLEN) is None and probe.objection(torch.bfloat16) is None:
        return " in one kernel call"
    model.set_attn_implementation(NAME)
    return ""


def base_model(model: torch.nn.Module) -> PreTrainedModel | None:
    """The transformers model inside an adapter, or the model itself; None if it is not a transformers model."""
    get_base = getattr(model, "get_base_model", None)
    base = get_base() if get_base is not None else model
    return base if isinstance(base, PreTrainedModel) else None


def _padded(objection: str) -> Packing:
    return Packing(False, "model", f"prompts are computed once per completion (padded rows): {objection}")


def _objection_of_rules(model: PreTrainedModel) -> str | None:
    """Why the model cannot compute packed rows, from its config alone; None: no rule forbids it."""
    config = model.config.get_text_config()
    if len(devices_of(model)) > 1:
        return "its layers are on several GPUs"
    if not model._supports_attention_backend:
        return f"{type(model).__name__} does not support another attention"
    dynamic = {kind for kind in _rope_types(config) if kind not in STATIC_ROPE}
    if dynamic:
        return f"its rotary embedding ({min(dynamic)}) depends on the length of the row"
    unsupported = set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES
    if unsupported:
        return f"it has layers of type {min(unsupported)}"
    return None


def _rope_types(config: PreTrainedConfig) -> Iterator[str]:
    """The rotary embedding of the model, or of each of its layer types."""
    for name in ("rope_parameters", "rope_scaling"):
        settings = getattr(config, name, None) or {}
        for part in (settings, *settings.values()):
            if isinstance(part, dict) and (kind := part.get("rope_type", part.get("type"))):
                yield kind


def _switch(model: PreTrainedModel, name: str) -> str | None:
    """Switch the model's attention; returns why it could not be switched, None if it was."""
    model.set_attn_implementation(name)
    inner = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    if any(part.config._attn_implementation != name for part in inner):
        return f"{type(model).__name__} did not switch its attention"
    return None


@dataclass(frozen=True, slots=True)
class _Probe:
    """Two tiny pairs. `expected`: their log-probs, computed one sequence at a time.

    `wrong`: their mean difference, in nats, from the log-probs of a model whose R sees C.
    """

    model: torch.nn.Module
    base: PreTrainedModel
    expected: list[Tensor]
    wrong: float

    @classmethod
    def of(cls, model: torch.nn.Module, base: PreTrainedModel) -> "_Probe":
        expected = [_alone(model, pair) for pair in _PAIRS]
        return cls(model, base, expected, _difference(expected, [_seeing_chosen(model, pair) for pair in _PAIRS]))

    def objection(self, dtype: torch.dtype, head: HeadChoice = "model") -> str | None:
        """Why packed rows are wrong with the attention that the model has now; None: they are exact."""
        row = PackedRow.of(_PAIRS, head)
        layout = Layout(row.layout.segments, record=True)
        row = replace(row, layout=layout).to(self.base.device)
        try:
            packed = packed_logps(self.model, row, dtype)
        except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError) as error:
            return f"its forward pass fails on packed rows ({' '.join(str(error).split())[:100]})"
        objection = _objection_of_calls(self.base.config.get_text_config(), layout.windows or [])
        if objection is not None:
            return objection
        difference = _difference(self.expected, [packed])
        coarsest = self.base.dtype if dtype == torch.float32 else dtype
        limit = min(TOLERANCE_NATS[coarsest], TOLERANCE_SHARE[coarsest] * self.wrong)
        if difference <= limit:
            return None
        return f"packed rows change its log-probs (by {difference:.2g} nats, allowed {limit:.2g})"


def _objection_of_calls(config: PreTrainedConfig, windows: Sequence[int | None]) -> str | None:
    """Every layer must call the attention once, with a sliding window exactly where the config says so.

    Most models apply their window through the mask. No mask is built here, so a window must be passed as an argument.
    """
    layers = config.num_hidden_layers
    if len(windows) != layers:
        return f"{len(windows)} of its {layers} layers call the registered attention"
    types = getattr(config, "layer_types", None)
    size = getattr(config, "sliding_window", None)
    sliding = [kind == "sliding_attention" for kind in types] if types else [size is not None] * layers
    if [window is not None for window in windows] != sliding:
        return "it does not pass its sliding window to its attention"
    if getattr(config, "attention_chunk_size", None):
        return "it attends in chunks"
    return None


def _alone(model: torch.nn.Module, pair: TokenPair) -> Tensor:
    """C and R, each by itself after P."""
    return torch.cat([_plain_logps(model, pair.prompt, reply) for reply in (pair.chosen, pair.rejected)])


def _seeing_chosen(model: torch.nn.Module, pair: TokenPair) -> Tensor:
    """C by itself, and R as if it followed C: what a model that is wrong about the row computes."""
    prompt_and_chosen = (*pair.prompt, *pair.chosen)
    return torch.cat(
        [_plain_logps(model, pair.prompt, pair.chosen), _plain_logps(model, prompt_and_chosen, pair.rejected)]
    )


def _plain_logps(model: torch.nn.Module, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    device = next(model.parameters()).device
    return padded_logps(model, PaddedRows.of([(prompt, completion)], pad_token_id=0).to(device), torch.float32)


def _difference(first: list[Tensor], second: list[Tensor]) -> float:
    """Mean absolute difference over the tokens, nats; infinite if any value is NaN."""
    difference = float((torch.cat(first) - torch.cat(second)).abs().mean())
    return difference if difference == difference else float("inf")


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _ids(start: int, count: int) -> tuple[int, ...]:
    """Different small ids, which every vocabulary has."""
    return tuple(3 + (start + 7 * index) % 61 for index in range(count))


_PAIRS = [TokenPair(_ids(1, 7), _ids(20, 6), _ids(33, 5)), TokenPair(_ids(5, 4), _ids(11, 3), _ids(48, 7))]
