"""Under autocast every linear layer casts its input for itself and keeps the copy: q, k and v keep the same one thrice.

Here layers that are given the same tensor share its cast. The forward pass computes the very same numbers, keeps about
a tenth less for the gradient, and is a little faster.
"""

import weakref

from torch import Tensor, get_autocast_dtype, is_autocast_enabled, nn


class _OneCast:
    """A forward pre-hook for all linear layers of a model; remembers the cast of the latest input."""

    def __init__(self) -> None:
        self._source: weakref.ref[Tensor] | None = None
        self._version = 0
        self._cast: Tensor | None = None

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...] | None:
        source, device = inputs[0], inputs[0].device.type
        if not is_autocast_enabled(device) or source.dtype == get_autocast_dtype(device):
            return None
        known = self._source() if self._source else None
        if known is not source or self._version != source._version:
            self._source, self._version = weakref.ref(source), source._version
            self._cast = source.to(get_autocast_dtype(device))
        return (self._cast, *inputs[1:])


def share_casts(model: nn.Module) -> None:
    """Once per model. The hooks stay: a layer that is computed again for its gradient has to keep the same tensors."""
    one_cast = _OneCast()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(one_cast)
