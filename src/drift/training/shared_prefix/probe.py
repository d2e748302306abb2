"""May this model's pairs share their prompt? Asked of every model at load, by rule and by number.

Some models take the packed row without complaint and answer wrongly: recurrent layers carry C over into R, biases count
places in the row. So the answer is yes only if every rule holds AND two tiny pairs get the log-probs that they get one
sequence at a time. Otherwise the padded path is taken, which every model can.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel

from drift.policy.padded import PaddedRows, padded_logps
from drift.training.shared_prefix.attention import NAME, shared_prefix_attention
from drift.training.shared_prefix.head import Head
from drift.training.shared_prefix.layout import Layout, PackedRow, packed_logps
from drift.training.shared_prefix.varlen import NAME_VARLEN, varlen_attention
from drift.training.tokens import TokenPair

AttentionInterface.register(NAME, shared_prefix_attention)
AttentionInterface.register(NAME_VARLEN, varlen_attention)

STATIC_ROPE = {"default", "linear", "llama3", "yarn", "proportional"}
"""Rotary frequencies that do not depend on how long the row is."""
LAYER_TYPES = {"full_attention", "sliding_attention"}

# Mean difference of a token's log-prob, nats: 1e-3 lies far from the 2e-6 of right and the 0.4 of wrong in float32.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}
# ... and as a share of what it differs by when R does see C: barely trained weights make any difference small.
SHARE_OF_WRONG = {torch.float32: 1e-2, torch.bfloat16: 0.25, torch.float16: 0.25}


@dataclass(frozen=True, slots=True)
class Packing:
    """`shared`: the model's attention is switched to the packed row. `head`: `kept` if its logits are nothing but what
    its head gives, so that they may be computed outside of it. `why`: one line for people.
    """

    shared: bool
    head: Head
    why: str


def choose_packing(model: torch.nn.Module) -> Packing:
    """Switches the model's attention to the packed row if that is exact, and leaves it as it was if not."""
    found = base_model(model)
    if found is None:
        return _plain("it is no transformers model")
    reason = _against(found)
    if reason is not None:
        return _plain(reason)
    before = str(found.config._attn_implementation)
    if before in (NAME, NAME_VARLEN):  # asked before; the padded path is what it is compared with
        found.set_attn_implementation("sdpa")
    with _evaluating(model):
        probe = _Probe.of(model, found)
        reason = _switch(found, NAME) or probe.against(torch.float32)
        if reason is not None:
            found.set_attn_implementation(before)
            return _plain(reason)
        head = "kept" if probe.against(torch.float32, "kept") is None else "model"
        kernel = _take_kernel(found, probe) if found.device.type == "cuda" else ""
    return Packing(True, head, f"prompts are computed once for both completions (packed rows{kernel}, probed)")


def _take_kernel(model: PreTrainedModel, probe: "_Probe") -> str:
    """CUDA's kernel for sequences of different lengths, where it is there and right."""
    if _switch(model, NAME_VARLEN) is None and probe.against(torch.bfloat16) is None:
        return " in one kernel call"
    model.set_attn_implementation(NAME)
    return ""


def base_model(model: torch.nn.Module) -> PreTrainedModel | None:
    """The transformers model inside an adapter, or the model itself."""
    get = getattr(model, "get_base_model", None)
    found = get() if get is not None else model
    return found if isinstance(found, PreTrainedModel) else None


def _plain(reason: str) -> Packing:
    return Packing(False, "model", f"prompts are computed for each completion (padded rows), as {reason}")


def _against(model: PreTrainedModel) -> str | None:
    """A rule that speaks against the packed row, from the config alone."""
    config = model.config.get_text_config()
    if not model._supports_attention_backend:
        return f"{type(model).__name__} does not take another attention"
    dynamic = {kind for kind in _rope_types(config) if kind not in STATIC_ROPE}
    if dynamic:
        return f"its rotary embedding ({min(dynamic)}) depends on the row's length"
    other = set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES
    if other:
        return f"it has layers of type {min(other)}"
    return None


def _rope_types(config: PreTrainedConfig) -> Iterator[str]:
    """Of every layer type, where they differ."""
    for name in ("rope_parameters", "rope_scaling"):
        settings = getattr(config, name, None) or {}
        for part in (settings, *settings.values()):
            if isinstance(part, dict) and (kind := part.get("rope_type", part.get("type"))):
                yield kind


def _switch(model: PreTrainedModel, name: str) -> str | None:
    model.set_attn_implementation(name)
    inner = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    if any(part.config._attn_implementation != name for part in inner):
        return f"{type(model).__name__} did not switch its attention"
    return None


@dataclass(frozen=True, slots=True)
class _Probe:
    """Two tiny pairs: their log-probs one sequence at a time, and how far those are from what a wrong row may give."""

    model: torch.nn.Module
    base: PreTrainedModel
    expected: list[Tensor]
    wrong: float

    @classmethod
    def of(cls, model: torch.nn.Module, base: PreTrainedModel) -> "_Probe":
        expected = [_alone(model, pair) for pair in _PAIRS]
        return cls(model, base, expected, _difference(expected, [_seeing_chosen(model, pair) for pair in _PAIRS]))

    def against(self, dtype: torch.dtype, head: Head = "model") -> str | None:
        """What speaks against the packed row as the model's attention computes it now; None: it is exact."""
        row = PackedRow.of(_PAIRS, head)
        layout = Layout(row.layout.segments, record=True)
        row = replace(row, layout=layout).to(self.base.device)
        try:
            found = packed_logps(self.model, row, dtype)
        except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError) as error:
            return f"its forward pass refuses packed rows ({' '.join(str(error).split())[:100]})"
        reason = _calls(self.base.config.get_text_config(), layout.windows or [])
        if reason is not None:
            return reason
        off = _difference(self.expected, [found])
        coarse = self.base.dtype if dtype == torch.float32 else dtype
        limit = min(TOLERANCE[coarse], SHARE_OF_WRONG[coarse] * self.wrong)
        return None if off <= limit else f"packed rows change its log-probs (by {off:.2g} nats, allowed {limit:.2g})"


def _calls(config: PreTrainedConfig, windows: Sequence[int | None]) -> str | None:
    """One call per layer, and a window in exactly the layers that are to have one: a mask that nobody builds would
    hide it otherwise."""
    layers = config.num_hidden_layers
    if len(windows) != layers:
        return f"{len(windows)} of its {layers} layers attend in a way that can be seen"
    types = getattr(config, "layer_types", None)
    size = getattr(config, "sliding_window", None)
    sliding = [kind == "sliding_attention" for kind in types] if types else [size is not None] * layers
    if [window is not None for window in windows] != sliding:
        return "it does not pass its sliding window on to its attention"
    if getattr(config, "attention_chunk_size", None):
        return "it attends in chunks"
    return None


def _alone(model: torch.nn.Module, pair: TokenPair) -> Tensor:
    """C and R, each by itself after P."""
    return torch.cat([_plain_logps(model, pair.prompt, reply) for reply in (pair.chosen, pair.rejected)])


def _seeing_chosen(model: torch.nn.Module, pair: TokenPair) -> Tensor:
    """C by itself, and R as if it followed C: what a model that gets the row wrong may say."""
    seen = (*pair.prompt, *pair.chosen)
    return torch.cat([_plain_logps(model, pair.prompt, pair.chosen), _plain_logps(model, seen, pair.rejected)])


def _plain_logps(model: torch.nn.Module, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    device = next(model.parameters()).device
    return padded_logps(model, PaddedRows.of([(prompt, completion)], pad_token_id=0).to(device), torch.float32)


def _difference(one: list[Tensor], other: list[Tensor]) -> float:
    """Mean over the tokens, nats; infinite if anything is not a number."""
    found = float((torch.cat(one) - torch.cat(other)).abs().mean())
    return found if found == found else float("inf")


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
    return tuple(3 + (start + 7 * place) % 61 for place in range(count))


_PAIRS = [TokenPair(_ids(1, 7), _ids(20, 6), _ids(33, 5)), TokenPair(_ids(5, 4), _ids(11, 3), _ids(48, 7))]
