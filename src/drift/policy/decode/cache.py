"""What a model keeps of the rows of a batch from one token to the next: keys and values, or the states of layers that
are no attention.

Transformers' own key-value cache is copied for every new token, which took three quarters of a decoding step (48 rows,
200 tokens, one thread). Here its buffers grow in steps. Only the plain growing layers are replaced; other kinds, such
as sliding windows and recurrent layers, stay as they are.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from drift.errors import PrerequisiteError

GROWTH_TOKENS = 64
"""Tokens by which a layer's buffers grow."""


class RoomyLayer(DynamicLayer):
    """Keys and values [B, heads, length, width] are views of buffers with room for more, which holds zeros."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._key_buffer, self._value_buffer = key_states[:, :, :0], value_states[:, :, :0]
        self._show(0)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held, length = self._length, self._length + key_states.shape[-2]
        if length > self._key_buffer.shape[-2]:
            self._key_buffer = _roomier(self._key_buffer[:, :, :held], key_states, length + GROWTH_TOKENS)
            self._value_buffer = _roomier(self._value_buffer[:, :, :held], value_states, length + GROWTH_TOKENS)
        self._key_buffer[:, :, held:length] = key_states
        self._value_buffer[:, :, held:length] = value_states
        return self._show(length)

    def get_seq_length(self) -> int:
        return self._length if self.is_initialized else 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        if self.is_initialized:  # not, if the model shares the keys and values of another layer
            self._key_buffer = _select(self._key_buffer, beam_idx, self._length)
            self._value_buffer = _select(self._value_buffer, beam_idx, self._length)
            self._show(self._length)

    def take_rows(self, parts: Sequence["RoomyLayer"]) -> None:
        """Hold the rows of these layers, one after another, with zeros before those that are shorter.

        The layers give up their memory. The model masks the padding, but it must be finite: 0 times NaN is NaN.
        """
        if not parts[0].is_initialized:  # the model shares the keys and values of another layer
            return
        self.lazy_initialization(parts[0]._key_buffer, parts[0]._value_buffer)
        lengths = [part.get_seq_length() for part in parts]
        self._key_buffer = _joined([part._key_buffer for part in parts], lengths)
        self._value_buffer = _joined([part._value_buffer for part in parts], lengths)
        self._show(max(lengths))
        for part in parts:
            del part.keys, part.values, part._key_buffer, part._value_buffer

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        keys, values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]
        self._length, self.keys, self.values = length, keys, values
        return keys, values


class CachedRows:
    """A batch of rows that grow by a token at a time. The logits of the next token are [B, V]."""

    def __init__(self, model: Any):
        self._model = model
        self._argument = _cache_argument(model)
        self._cache = roomy_cache(model.config)

    @property
    def of_plain_attention(self) -> bool:
        """All that the model keeps are keys and values, of every token or of a window."""
        kinds = {type(layer) for layer in self._cache.layers}
        return self._argument == "past_key_values" and kinds <= {RoomyLayer, DynamicSlidingWindowLayer}

    @property
    def can_be_joined(self) -> bool:
        """All that the model keeps are keys and values of every token."""
        return self.of_plain_attention and all(type(layer) is RoomyLayer for layer in self._cache.layers)

    @classmethod
    def join(cls, parts: Sequence["CachedRows"]) -> "CachedRows":
        """The rows of all parts, one after another. Each part must have been started, and is of no use any more."""
        joined = cls(parts[0]._model)
        for layer, *of_parts in zip(joined._cache.layers, *(part._cache.layers for part in parts), strict=True):
            assert isinstance(layer, RoomyLayer), "can_be_joined says so"
            layer.take_rows(of_parts)  # pyright: ignore[reportArgumentType]
        width = max(part._mask.shape[1] for part in parts)
        joined._mask = torch.cat([F.pad(part._mask, (width - part._mask.shape[1], 0)) for part in parts])
        joined._positions = torch.cat([part._positions for part in parts])
        return joined

    def start(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The logits after left-padded prompts. ids, mask: int64 [B, L]."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._logits(ids, mask, positions)
        self._mask, self._positions = mask, positions[:, -1:]
        return logits

    def append(self, tokens: Tensor) -> Tensor:
        """The logits after one more token of each row. tokens: int64 [B]."""
        self._positions = self._positions + 1
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        return self._logits(tokens[:, None], self._mask, self._positions)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows. int64, each any number of times.

        By transformers' method for the beams of a search: of its methods, only this one exists for every kind of layer.
        """
        self._cache.reorder_cache(rows)  # pyright: ignore[reportArgumentType]
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _logits(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        takes_mask = self._argument == "past_key_values" or ids.shape[1] > 1
        return self._model(
            input_ids=ids,
            attention_mask=mask if takes_mask else None,  # Mamba's is of the tokens that it reads now: never padding
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._argument: self._cache},
        ).logits[:, -1]


def roomy_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for this model."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _cache_argument(model: Any) -> str:
    """The name of the cache in the model's forward pass. Other names pass as well, and do nothing: every token would
    follow the one before it alone."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = inspect.signature(type(base).forward).parameters
    for name in ("past_key_values", "cache_params"):
        if name in parameters:
            return name
    raise not_decoded(model, f"{type(base).__name__} takes no cache")


def not_decoded(model: Any, why: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"models of type {model.config.model_type} can be trained, and not sampled by this process: {why}. "
        "Set sampling.backend to vllm or endpoint, or policy.model to another model."
    )


def _roomier(held: Tensor, new: Tensor, room: int) -> Tensor:
    batch, heads, _, width = new.shape
    buffer = new.new_empty((batch, heads, room, width))
    buffer[:, :, : held.shape[-2]] = held
    buffer[:, :, held.shape[-2] :] = 0
    return buffer


def _joined(parts: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """The first tokens (their number: `lengths`) of each buffer's rows in one buffer with room, right-aligned."""
    _, heads, _, width = parts[0].shape
    longest, first = max(lengths), 0
    buffer = parts[0].new_empty((sum(map(len, parts)), heads, longest + GROWTH_TOKENS, width))
    for part, length in zip(parts, lengths, strict=True):
        rows = buffer[first : first + len(part)]
        rows[:, :, : longest - length], rows[:, :, longest:] = 0, 0
        rows[:, :, longest - length : longest] = part[:, :, :length]
        first += len(part)
    return buffer


def _select(buffer: Tensor, rows: Tensor, length: int) -> Tensor:
    """The rows in a new buffer."""
    selected = buffer.new_empty((len(rows), *buffer.shape[1:]))
    selected[:, :, :length] = buffer[rows.to(buffer.device), :, :length]  # a layer may be on another GPU than the ids
    selected[:, :, length:] = 0
    return selected
