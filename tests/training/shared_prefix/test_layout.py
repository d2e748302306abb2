"""The packed row against one written by hand, and its masks."""

import torch

from drift.training.shared_prefix.layout import Layout, PackedRow, Segment
from drift.training.tokens import TokenPair

PAIRS = [TokenPair((11, 12, 13), (21, 22), (31,)), TokenPair((14,), (23,), (32, 33))]


def test_a_row_by_hand():
    row = PackedRow.of(PAIRS)
    assert row.input_ids.tolist() == [[11, 12, 13, 21, 22, 31, 14, 23, 32, 33]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 0, 1, 1, 2]]
    assert row.predicting.tolist() == [2, 3, 2, 6, 6, 8]
    assert row.targets.tolist() == [21, 22, 31, 23, 32, 33]
    assert row.layout.segments == (Segment(0, 3, 5, 6), Segment(6, 7, 8, 10))


def test_masks_by_hand():
    layout, like = Layout(()), torch.zeros(())
    assert (layout.mask(2, 4, None, like) == 0).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert (layout.mask(2, 4, 2, like) == 0).int().tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert layout.mask(2, 4, None, like) is layout.mask(2, 4, None, like)
