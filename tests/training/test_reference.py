"""The reference pass gives every pair its own log-probabilities, in the order of the pairs."""

import math

import pytest
import torch

from drift.config import PolicySettings
from drift.policy.model import load_policy
from drift.training.reference import with_reference
from drift.training.tokens import TokenPair


@pytest.fixture(scope="module")
def policy(tiny_policy):
    return load_policy(tiny_policy, PolicySettings())


def test_the_reference_is_asked_in_any_grouping_and_answers_in_order(policy):
    pairs = [TokenPair(tuple(range(10, 12 + n % 5)), (20 + n, 30), (40 + n,)) for n in range(11)]
    assert math.isnan(pairs[0].ref_chosen_logps)
    small = with_reference(policy, pairs, 2, torch.float32)
    large = with_reference(policy, pairs, 64, torch.float32)
    assert [pair.chosen for pair in small] == [pair.chosen for pair in pairs]
    for one, other in zip(small, large, strict=True):
        assert one.ref_chosen_logps == pytest.approx(other.ref_chosen_logps, abs=1e-4)
        assert one.ref_rejected_logps == pytest.approx(other.ref_rejected_logps, abs=1e-4)
    assert len({round(pair.ref_chosen_logps, 4) for pair in small}) > 5
