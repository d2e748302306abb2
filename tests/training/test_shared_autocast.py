"""Layers with the same input share its cast, and compute what they did."""

import torch
from torch import nn

from drift.training.trainer import shared_autocast


class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return sum(layer(x) for layer in self.layers)


def casts_kept(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, int]:
    kept: set[int] = set()

    def keep(tensor):
        if tensor.shape == x.shape and tensor.dtype == torch.bfloat16:
            kept.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), torch.autocast("cpu", torch.bfloat16):
        return model(x), len(kept)


def test_one_cast_of_an_input_is_kept_and_nothing_changes():
    torch.manual_seed(0)
    model, x = Three(), torch.randn(5, 8)
    before, three = casts_kept(model, x)
    shared_autocast(model)
    after, one = casts_kept(model, x)
    assert (three, one) == (3, 1)
    assert torch.equal(before, after)
    x.add_(1.0)  # changed in place: cast anew
    changed, _ = casts_kept(model, x)
    assert not torch.equal(changed, after)
    assert torch.equal(model(x), sum(layer(x) for layer in model.layers))  # without autocast, nothing happens
