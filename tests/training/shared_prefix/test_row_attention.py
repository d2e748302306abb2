"""Attention in bfloat16 on a CPU: outputs and gradients against plain attention in float64, pair by pair."""

import pytest
import torch
from torch import Tensor, nn

from drift.training.shared_prefix.attention import shared_prefix_attention
from drift.training.shared_prefix.layout import Layout, Segment

PAIRS = [Segment(0, 30, 130, 200), Segment(200, 201, 202, 203), Segment(203, 290, 300, 300)]  # the last has no R
SCALE = 0.2


def plain(query: Tensor, key: Tensor, value: Tensor, segments: list[Segment], window: int | None) -> Tensor:
    """[1, N, H, D], from the masks that tests of the layout compare with ones written by hand."""
    layout, groups = Layout(segments), query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    parts = []
    for s in segments:
        for of_rejected in (False, True):
            rows = slice(s.rejected, s.end) if of_rejected else slice(s.start, s.rejected)
            keys = slice(s.start, rows.stop)
            scores = SCALE * query[:, :, rows] @ key[:, :, keys].transpose(2, 3)
            shares = (scores + layout.mask(s, of_rejected, window, query)).softmax(-1)
            parts.append(shares @ value[:, :, keys])
    return torch.cat(parts, dim=2).transpose(1, 2)


@pytest.mark.parametrize("size", [1, 4])  # times 4: some scores are above 50
@pytest.mark.parametrize("window", [None, 3, 40, 500])
@pytest.mark.parametrize(("heads", "key_heads", "of_values"), [(6, 2, 16), (4, 4, 8)])
def test_outputs_and_gradients_are_those_of_plain_attention(heads, key_heads, of_values, window, size):
    torch.manual_seed(0)
    length, width = PAIRS[-1].end, 16
    shapes = [(1, heads, length, width), (1, key_heads, length, width), (1, key_heads, length, of_values)]
    small = [(size * torch.randn(shape)).bfloat16().requires_grad_() for shape in shapes]
    exact = [states.detach().double().requires_grad_() for states in small]
    slopes = torch.randn(1, length, heads, of_values).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):  # as in training
        found, _ = shared_prefix_attention(nn.Module(), *small, None, SCALE, window, Layout(PAIRS))
    truth = plain(*exact, PAIRS, window)
    found.backward(slopes)
    truth.backward(slopes.double())
    gradients = [(states.grad, right.grad) for states, right in zip(small, exact, strict=True)]
    for got, right in [(found, truth), *gradients]:
        assert got.dtype == torch.bfloat16
        error = (got.double() - right).norm() / right.norm()
        assert error < 4e-3  # bfloat16 itself rounds by up to 2e-3 (norm), the kernel's backward pass by 6e-3


def test_without_a_scale_it_is_one_over_the_root_of_the_width():
    torch.manual_seed(0)
    states = [torch.randn(1, 2, 4, 25).bfloat16() for _ in range(3)]
    layout = Layout([Segment(0, 1, 3, 4)])
    found, _ = shared_prefix_attention(nn.Module(), *states, None, shared_prefix=layout)
    right, _ = shared_prefix_attention(nn.Module(), *states, None, SCALE, shared_prefix=layout)
    assert torch.equal(found, right)
