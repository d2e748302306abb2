"""Micro-batches add up to their step, in either layout and any grouping."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.config import PolicySettings
from drift.policy.model import load_policy
from drift.policy.padded import PaddedRows
from drift.training.batch import PairBatch, StepCollator, per_token_logps, summed_logps
from drift.training.loss import LossScalars, preference_loss
from drift.training.shared_prefix import PackedRow, choose_packing
from drift.training.tokens import TokenPair

PAIRS = [
    TokenPair((11, 12, 13), (21, 22), (31,), 1.0, 0.1, -1.0, -2.0),
    TokenPair((14,), (23,), (32, 33), 3.0, 0.2, -3.0, -4.0),
]


@pytest.mark.parametrize(("shared", "rows"), [(True, PackedRow), (False, PaddedRows)])
def test_a_batch_by_hand(shared, rows):
    (batch,) = StepCollator(0, 1000, shared)(PAIRS)
    assert isinstance(batch.rows, rows)
    if not shared:
        four = [[11, 12, 13, 21, 22], [11, 12, 13, 31, 0], [14, 23, 0, 0, 0], [14, 32, 33, 0, 0]]
        assert batch.rows.input_ids.tolist() == four
    assert batch.ref_chosen_logps.tolist() == [-1.0, -3.0]
    assert batch.ref_rejected_logps.tolist() == [-2.0, -4.0]
    assert (batch.chosen_tokens.tolist(), batch.rejected_tokens.tolist()) == ([2.0, 1.0], [1.0, 2.0])
    assert batch.noise.tolist() == pytest.approx([0.1, 0.2])
    assert batch.weights.tolist() == [0.25, 0.75]
    assert batch.token_weights.tolist() == pytest.approx([1 / 5, 3 / 5])  # weighted tokens: 1 * 2 + 3 * 1


def lengths_of(batch: PairBatch) -> list[int]:
    if isinstance(batch.rows, PackedRow):
        return [segment.end - segment.start for segment in batch.rows.layout.segments]
    return batch.rows.attention_mask.sum(-1)[::2].tolist()


@pytest.mark.parametrize(
    ("shared", "budget", "lengths"),
    [(True, 24, [[11, 10], [6, 5, 4]]), (False, 40, [[10, 9], [5, 4, 3]]), (True, 1, [[11], [10], [6], [5], [4]])],
)
def test_micro_batches_hold_like_lengths_within_the_budget(shared, budget, lengths):
    pairs = [TokenPair((1,) * length, (2,), (3,)) for length in (3, 9, 4, 8, 2)]
    batches = StepCollator(0, budget, shared)(pairs)
    assert [lengths_of(batch) for batch in batches] == lengths
    assert sum(batch.weights.sum().item() for batch in batches) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def models(tiny_policy):
    """By layout: the same weights, with the attention of each."""
    packed, plain = (load_policy(tiny_policy, PolicySettings()).model for _ in range(2))
    assert choose_packing(packed).shared
    return {True: packed, False: plain}


def random_pairs(seed: int, count: int = 5) -> list[TokenPair]:
    torch.manual_seed(seed)

    def ids(longest: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 250, (int(torch.randint(1, longest, ())),)).tolist())

    weights = torch.rand(count).tolist()
    return [TokenPair(ids(20), ids(12), ids(12), weight, 0.0, -20.0, -25.0) for weight in weights]


def gradient_of(model, pairs, collator) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    total = 0.0
    for batch in collator(pairs):
        logps = summed_logps(model, batch, torch.float32)
        loss = preference_loss("sigmoid", batch.with_logps(logps), LossScalars(0.1, 0.5)).loss
        loss.backward()
        total += loss.item()
    return total, torch.cat([weight.grad.flatten() for weight in model.parameters()])


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 200), st.booleans())
def test_any_grouping_and_layout_gives_the_steps_loss_and_gradient(models, seed, budget, shared):
    pairs = random_pairs(seed)
    loss, gradient = gradient_of(models[False], pairs, StepCollator(0, 100_000, False))
    other_loss, other_gradient = gradient_of(models[shared], pairs, StepCollator(0, budget, shared))
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert float((other_gradient - gradient).norm() / gradient.norm()) < 1e-5


def test_a_zero_weight_pair_changes_nothing(models):
    pairs = random_pairs(2)
    ignored = TokenPair((5, 6), (7,), (8, 9), 0.0, 0.0, -1.0, -1.0)
    loss, gradient = gradient_of(models[True], pairs, StepCollator(0, 64, True))
    other_loss, other = gradient_of(models[True], [*pairs, ignored], StepCollator(0, 64, True))
    assert other_loss == pytest.approx(loss, rel=1e-6)
    assert float((other - gradient).norm() / gradient.norm()) < 1e-6


@pytest.mark.parametrize("shared", [True, False])
def test_log_probabilities_are_of_the_completion_alone(models, shared):
    pair = random_pairs(4)[0]
    split = len(pair.chosen)
    (batch,) = StepCollator(0, 1000, shared)([pair])
    found = per_token_logps(models[shared], batch, torch.float32)
    ids = torch.tensor([[*pair.prompt, *pair.chosen]])
    expected = models[False](ids).logits[0].log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])[len(pair.prompt) - 1 :, 0]
    assert torch.allclose(found[:split], expected, atol=1e-5)
    sums = summed_logps(models[shared], batch, torch.float32)[0].tolist()
    assert sums == pytest.approx([found[:split].sum().item(), found[split:].sum().item()], rel=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_a_chosen_reply_alone_has_the_log_probs_of_its_pair(models, shared):
    pairs = random_pairs(3)
    alone = [TokenPair(pair.prompt, pair.chosen, ()) if n % 2 else pair for n, pair in enumerate(pairs)]
    paired, single = (
        torch.cat([summed_logps(models[shared], batch, torch.float32) for batch in StepCollator(0, 60, shared)(rows)])
        for rows in (pairs, alone)
    )
    sums = dict(zip(*(sorted_rows(paired), sorted_rows(single)), strict=True))
    assert all(one == pytest.approx(other, abs=1e-4) for one, other in sums.items())
    assert (single[:, 1] == 0).sum() == 2


def sorted_rows(logps: torch.Tensor) -> list[float]:
    """The chosen sides, whatever the order of the micro-batches."""
    return sorted(logps[:, 0].tolist())
