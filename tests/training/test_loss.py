"""The loss against values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drift.training.loss import dpo_loss, token_logps


def tensors(*rows):
    return [torch.tensor(row) for row in rows]


def test_dpo_by_hand():
    # s = 0.1 * ((-10 + 12) - (-20 + 17)) = 0.5 and 0.1 * ((-5 + 5) - (-6 + 6)) = 0
    logps = tensors([-10.0, -5.0], [-20.0, -6.0], [-12.0, -5.0], [-17.0, -6.0])
    found = dpo_loss(*logps, beta=0.1, weights=torch.tensor([0.5, 0.5]))
    assert found.sigmoid_terms.tolist() == pytest.approx([0.474077, 0.693147], abs=1e-6)
    assert found.loss.item() == pytest.approx(0.583612, abs=1e-6)
    assert found.chosen_rewards.tolist() == pytest.approx([0.2, 0.0])
    assert found.rejected_rewards.tolist() == pytest.approx([-0.3, 0.0])


def test_weights_are_shares_of_the_step():
    logps = tensors([-10.0, -5.0], [-20.0, -6.0], [-12.0, -5.0], [-17.0, -6.0])
    found = dpo_loss(*logps, beta=0.1, weights=torch.tensor([0.25, 0.75]))
    assert found.loss.item() == pytest.approx(0.25 * 0.474077 + 0.75 * 0.693147, abs=1e-6)


def test_rpo_is_the_mean_nll_per_chosen_token():
    # 2 and 6 chosen tokens with 10 and 5 nats: 15 nats over 8 tokens
    logps = tensors([-10.0, -5.0], [-20.0, -6.0], [-10.0, -5.0], [-20.0, -6.0])
    half = torch.tensor([0.5, 0.5])
    found = dpo_loss(*logps, beta=0.1, weights=half, rpo_alpha=0.2, token_weights=torch.tensor([0.125, 0.125]))
    assert found.loss.item() == pytest.approx(math.log(2) + 0.2 * 15 / 8, abs=1e-6)


def test_gradient_is_minus_beta_sigmoid_of_minus_s():
    chosen, rejected, ref_chosen, ref_rejected = tensors([-10.0], [-20.0], [-12.0], [-17.0])
    chosen.requires_grad_()
    rejected.requires_grad_()
    dpo_loss(chosen, rejected, ref_chosen, ref_rejected, 0.1, torch.ones(1)).loss.backward()
    slope = -0.1 / (1 + math.exp(0.5))
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert (chosen.grad.item(), rejected.grad.item()) == pytest.approx((slope, -slope))


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(0.01, 10))
def test_the_term_is_ln_2_at_the_reference_and_always_finite(chosen, rejected, beta):
    first, second = tensors([chosen], [rejected])
    one = torch.ones(1)
    assert dpo_loss(first, second, first, second, beta, one).loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert math.isfinite(dpo_loss(first, second, second, first, beta, one).loss.item())


def test_token_logps_by_hand():
    logits = torch.tensor([[[math.log(3.0), 0.0], [0.0, math.log(4.0)], [7.0, 7.0]]])
    targets = torch.tensor([[0, 1, 0]])
    mask = torch.tensor([[True, True, False]])
    expected = [math.log(3 / 4), math.log(4 / 5), 0.0]
    assert token_logps(logits, targets, mask)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_bfloat16_logits_are_summed_in_float32():
    torch.manual_seed(0)
    logits = torch.randn(1, 300, 500).bfloat16()
    targets = torch.randint(500, (1, 300))
    found = token_logps(logits, targets, torch.ones(1, 300, dtype=torch.bool))
    exact = logits.double().log_softmax(-1).gather(-1, targets[..., None]).sum().item()
    assert found.dtype == torch.float32
    assert found.sum().item() == pytest.approx(exact, abs=1e-2)
    assert abs(logits.log_softmax(-1).gather(-1, targets[..., None]).sum().item() - exact) > 0.1
