"""The key-value cache: its buffers grow in steps, while transformers' own cache is copied for every new token.

Those copies took three quarters of a decoding step (48 rows, 200 tokens, one thread). Only transformers' plain growing
layers are replaced; other kinds, such as sliding windows, stay as they are.
"""

from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

GROWTH_TOKENS = 64
"""Tokens by which a layer's buffers grow."""


class RoomyLayer(DynamicLayer):
    """Keys and values [B, heads, length, width] are views of buffers with room for more."""

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

    def batch_select_indices(self, indices: Tensor) -> None:
        self._key_buffer = _select(self._key_buffer, indices, self._length)
        self._value_buffer = _select(self._value_buffer, indices, self._length)
        self._show(self._length)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        keys, values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]
        self._length, self.keys, self.values = length, keys, values
        return keys, values


def roomy_cache(config: PretrainedConfig) -> DynamicCache:
    """An empty cache for this model."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _roomier(held: Tensor, new: Tensor, room: int) -> Tensor:
    batch, heads, _, width = new.shape
    buffer = new.new_empty((batch, heads, room, width))
    buffer[:, :, : held.shape[-2]] = held
    return buffer


def _select(buffer: Tensor, rows: Tensor, length: int) -> Tensor:
    """The rows in a new buffer; what is beyond `length` is unused and not copied."""
    selected = buffer.new_empty((len(rows), *buffer.shape[1:]))
    selected[:, :, :length] = buffer[rows.to(buffer.device), :, :length]  # a layer may be on another GPU than the ids
    return selected
