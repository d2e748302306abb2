"""Collation against matrices written by hand, and micro-batches that add up to their step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.config import PolicySettings
from drift.policy.model import load_policy
from drift.training.batch import StepCollator, per_token_logps, summed_logps
from drift.training.loss import preference_loss
from drift.training.tokens import TokenPair

PAIRS = [
    TokenPair((11, 12, 13), (21, 22), (31,), 1.0, 0.1, -1.0, -2.0),
    TokenPair((14,), (23,), (32, 33), 3.0, 0.2, -3.0, -4.0),
]


def test_a_batch_by_hand():
    (batch,) = StepCollator(pad_token_id=0)(PAIRS)
    assert batch.input_ids.tolist() == [
        [11, 12, 13, 21, 22],
        [14, 23, 0, 0, 0],
        [11, 12, 13, 31, 0],
        [14, 32, 33, 0, 0],
    ]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert batch.completion_mask.int().tolist() == [
        [0, 0, 0, 1, 1],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 1, 1, 0, 0],
    ]
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 4]
    assert batch.position_ids[1, :2].tolist() == [0, 1]
    assert batch.ref_chosen_logps.tolist() == [-1.0, -3.0]
    assert batch.ref_rejected_logps.tolist() == [-2.0, -4.0]
    assert (batch.chosen_tokens.tolist(), batch.rejected_tokens.tolist()) == ([2.0, 1.0], [1.0, 2.0])
    assert batch.noise.tolist() == pytest.approx([0.1, 0.2])
    assert batch.weights.tolist() == [0.25, 0.75]
    assert batch.token_weights.tolist() == pytest.approx([1 / 5, 3 / 5])  # weighted tokens: 1 * 2 + 3 * 1


def test_micro_batches_hold_like_lengths_and_every_pair():
    pairs = [TokenPair((1,) * length, (2,), (3,)) for length in (3, 9, 4, 8, 2)]
    batches = StepCollator(pad_token_id=0, micro_batch_size=2)(pairs)
    assert [batch.attention_mask.sum(-1).tolist() for batch in batches] == [[10, 9, 10, 9], [5, 4, 5, 4], [3, 3]]
    assert sum(batch.weights.sum().item() for batch in batches) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def model(tiny_policy):
    return load_policy(tiny_policy, PolicySettings()).model


def random_pairs(seed: int, count: int = 5) -> list[TokenPair]:
    torch.manual_seed(seed)

    def ids(longest: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 250, (int(torch.randint(1, longest, ())),)).tolist())

    weights = torch.rand(count).tolist()
    return [TokenPair(ids(20), ids(12), ids(12), weight, 0.0, -20.0, -25.0) for weight in weights]


def gradient_of(model, pairs, micro_batch_size) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    total = 0.0
    for batch in StepCollator(0, micro_batch_size)(pairs):
        logps = summed_logps(model, batch, torch.float32)
        loss = preference_loss("sigmoid", batch.with_logps(*logps), 0.1, 0.5, 3.0, "sequence").loss
        loss.backward()
        total += loss.item()
    return total, torch.cat([weight.grad.flatten() for weight in model.parameters()])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_any_grouping_gives_the_steps_loss_and_gradient(model, seed, micro_batch_size):
    pairs = random_pairs(seed)
    loss, gradient = gradient_of(model, pairs, None)
    grouped_loss, grouped_gradient = gradient_of(model, pairs, micro_batch_size)
    assert grouped_loss == pytest.approx(loss, rel=1e-5)
    assert float((grouped_gradient - gradient).norm() / gradient.norm()) < 1e-5


def test_padding_changes_no_log_probability(model):
    pairs = sorted(random_pairs(3), key=lambda pair: -pair.length)  # the order of the batch
    (batch,) = StepCollator(0)(pairs)
    together = torch.stack(summed_logps(model, batch, torch.float32), dim=1)
    alone = torch.cat([torch.stack(summed_logps(model, StepCollator(0)([p])[0], torch.float32), dim=1) for p in pairs])
    assert torch.allclose(together, alone, atol=1e-4)


def test_log_probabilities_are_of_the_completion_alone(model):
    pair = random_pairs(4)[0]
    (batch,) = StepCollator(0)([pair])
    found = per_token_logps(model, batch, torch.float32)
    ids = torch.tensor([[*pair.prompt, *pair.chosen]])
    expected = model(ids).logits[0].log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])[len(pair.prompt) - 1 :, 0]
    assert torch.allclose(found[0][found[0] != 0], expected, atol=1e-5)
