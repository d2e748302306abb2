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


def test_a_row_with_a_reply_alone_by_hand():
    row = PackedRow.of([TokenPair((11, 12), (21, 22, 23), ()), PAIRS[1]])
    assert row.input_ids.tolist() == [[11, 12, 21, 22, 23, 14, 23, 32, 33]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1, 1, 2]]
    assert row.predicting.tolist() == [1, 2, 3, 5, 5, 7]
    assert row.targets.tolist() == [21, 22, 23, 23, 32, 33]


def test_the_sequences_of_one_kernel_call_by_hand():
    places, query_ends, key_ends, longest = PackedRow.of(PAIRS).layout.sequences(torch.device("cpu"))
    assert places.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 5, 6, 7, 6, 8, 9]
    assert query_ends.tolist() == [0, 5, 6, 8, 10]
    assert key_ends.tolist() == [0, 5, 9, 11, 14]
    assert longest == 5


def test_masks_by_hand():
    segment, like = Segment(10, 12, 13, 15), torch.zeros(())  # P P C R R
    layout = Layout([segment])

    def seen(of_rejected: bool, window: int | None) -> list[list[int]]:
        return (layout.mask(segment, of_rejected, window, like) == 0).int().tolist()

    assert seen(True, None) == [[1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    assert seen(True, 2) == [[0, 1, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert seen(False, None) == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert seen(False, 2) == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert layout.mask(segment, True, None, like) is layout.mask(segment, True, None, like)
