"""The losses against values computed by hand, and how a loss is added."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drift.config import ExperimentalTraining, TrainerSettings
from drift.records import LossName, MarginUnit
from drift.training import loss as losses
from drift.training.loss import LOSSES, LossScalars, PairTensors, preference_loss


def pairs(*logps: list[float], lengths=((2.0, 1.0), (4.0, 5.0)), noise=None, weights=None, token_weights=None):
    """`logps`: policy chosen, policy rejected, reference chosen, reference rejected, one value per pair."""
    count = len(logps[0])
    rows = [*logps, *(side[:count] for side in lengths), noise or [0.0] * count]
    rows += [weights or [1 / count] * count, token_weights or [0.0] * count]
    return PairTensors(*map(torch.tensor, rows))


# r+ = 2 and 0, r- = -3 and 0, so that s = 0.5 and 0 at beta 0.1; lengths 2, 1 and 4, 5
TWO = ([-10.0, -5.0], [-20.0, -6.0], [-12.0, -5.0], [-17.0, -6.0])


def loss_of(name, tensors, beta=0.1, rpo_alpha=0.0, margin=3.0, margin_unit="sequence"):
    return preference_loss(name, tensors, LossScalars(beta, rpo_alpha, margin, margin_unit))


def test_sigmoid_by_hand():
    result = loss_of("sigmoid", pairs(*TWO))
    assert losses.sigmoid(pairs(*TWO), LossScalars(0.1)).tolist() == pytest.approx([0.474077, 0.693147], abs=1e-6)
    assert result.loss.item() == pytest.approx(0.583612, abs=1e-6)
    assert result.sigmoid_terms.tolist() == pytest.approx([0.474077, 0.693147], abs=1e-6)
    assert result.chosen_rewards.tolist() == pytest.approx([0.2, 0.0])
    assert result.rejected_rewards.tolist() == pytest.approx([-0.3, 0.0])


@pytest.mark.parametrize(
    ("name", "beta", "first", "second"),
    [
        ("sigmoid_norm", 1.0, math.log(1 + math.exp(-(2 / 2 + 3 / 4))), math.log(2)),
        ("ipo", 0.5, (2 / 2 + 3 / 4 - 1) ** 2, 1.0),
        ("apo_zero", 1.0, 1 / (1 + math.exp(2)) + 1 / (1 + math.exp(3)), 1.0),
        ("robust", 0.1, 0.474077, math.log(2)),  # no noise: as sigmoid
    ],
)
def test_losses_of_beta_by_hand(name, beta, first, second):
    assert LOSSES[name](pairs(*TWO), LossScalars(beta)).tolist() == pytest.approx([first, second], abs=1e-6)
    expected = 0.25 * first + 0.75 * second
    assert loss_of(name, pairs(*TWO, weights=[0.25, 0.75]), beta).loss.item() == pytest.approx(expected, abs=1e-6)


def test_robust_takes_each_pairs_own_noise():
    # -log sigmoid(0.5) = 0.474077, -log sigmoid(-0.5) = 0.974077
    result = losses.robust(pairs(*TWO, noise=[0.2, 0.4]), LossScalars(0.1))
    assert result.tolist() == pytest.approx([(0.8 * 0.474077 - 0.2 * 0.974077) / 0.6, math.log(2)], abs=1e-5)


def test_robust_is_unbiased():
    """Right with probability 1 - e and swapped with e, it costs on average what the right pair costs."""
    right = pairs(*TWO, noise=[0.3, 0.3])
    swapped = pairs(TWO[1], TWO[0], TWO[3], TWO[2], noise=[0.3, 0.3])
    scalars = LossScalars(0.1)
    average = 0.7 * losses.robust(right, scalars) + 0.3 * losses.robust(swapped, scalars)
    assert torch.allclose(average, losses.sigmoid(right, scalars))


@pytest.mark.parametrize(
    ("unit", "margin", "first", "second"),
    [
        ("sequence", 3.0, (2 - 3) ** 2 + (-3 + 3) ** 2, 3**2 + 3**2),
        ("token", 0.5, (2 - 0.5 * 2) ** 2 + (-3 + 0.5 * 4) ** 2, (0.5 * 1) ** 2 + (0.5 * 5) ** 2),
    ],
)
def test_anchored_by_hand(unit, margin, first, second):
    scalars = LossScalars(0.1, margin=margin, margin_unit=unit)
    assert losses.anchored(pairs(*TWO), scalars).tolist() == pytest.approx([first, second])
    result = loss_of("anchored", pairs(*TWO, weights=[0.5, 0.5]), margin=margin, margin_unit=unit)
    assert result.loss.item() == pytest.approx((first + second) / 2)


@pytest.mark.parametrize(
    ("unit", "margin", "first", "second"),
    [
        ("sequence", 3.0, (2 - 3) ** 2 + 0, 3**2 + 3**2),
        ("token", 0.5, 0 + 0, (0.5 * 1) ** 2 + (0.5 * 5) ** 2),  # the first pair is beyond both of its targets
    ],
)
def test_anchored_hinge_by_hand(unit, margin, first, second):
    scalars = LossScalars(0.1, margin=margin, margin_unit=unit)
    assert losses.anchored_hinge(pairs(*TWO), scalars).tolist() == pytest.approx([first, second])


def test_anchored_pulls_an_overshoot_back_and_its_hinge_leaves_it():
    def slopes(loss: str, chosen: float, rejected: float) -> tuple[float, float]:
        tensors = pairs([chosen], [rejected], [0.0], [0.0])
        tensors.chosen.requires_grad_()
        tensors.rejected.requires_grad_()
        loss_of(loss, tensors).loss.backward()
        assert tensors.chosen.grad is not None
        assert tensors.rejected.grad is not None
        return tensors.chosen.grad.item(), tensors.rejected.grad.item()

    assert slopes("anchored", 3.0, -3.0) == slopes("anchored_hinge", 3.0, -3.0) == (0.0, 0.0)
    assert slopes("anchored", 1.0, -0.5) == slopes("anchored_hinge", 1.0, -0.5) == (-4.0, 5.0)
    assert slopes("anchored", 4.0, -5.0) == (2.0, -4.0)  # descent lowers the chosen and raises the rejected
    assert slopes("anchored_hinge", 4.0, -5.0) == (0.0, 0.0)


def test_sft_and_rpo_are_the_mean_nll_per_chosen_token():
    # 2 and 6 chosen tokens with 10 and 5 nats: 15 nats over 8 tokens
    at_start = (TWO[0], TWO[1], TWO[0], TWO[1])
    tensors = pairs(*at_start, weights=[0.5, 0.5], token_weights=[0.125, 0.125])
    assert losses.chosen_nll(tensors).item() == pytest.approx(15 / 8)
    assert loss_of("sft", tensors, rpo_alpha=0.2).loss.item() == pytest.approx(15 / 8)
    assert loss_of("sigmoid", tensors, rpo_alpha=0.2).loss.item() == pytest.approx(math.log(2) + 0.2 * 15 / 8, abs=1e-6)


def test_weights_are_shares_of_the_step():
    result = loss_of("sigmoid", pairs(*TWO, weights=[0.25, 0.75]))
    assert result.loss.item() == pytest.approx(0.25 * 0.474077 + 0.75 * 0.693147, abs=1e-6)


def test_gradient_is_minus_beta_sigmoid_of_minus_s():
    tensors = pairs([-10.0], [-20.0], [-12.0], [-17.0])
    tensors.chosen.requires_grad_()
    tensors.rejected.requires_grad_()
    loss_of("sigmoid", tensors).loss.backward()
    slope = -0.1 / (1 + math.exp(0.5))
    assert tensors.chosen.grad is not None
    assert tensors.rejected.grad is not None
    assert (tensors.chosen.grad.item(), tensors.rejected.grad.item()) == pytest.approx((slope, -slope))


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(0.01, 10))
def test_the_term_is_ln_2_at_the_reference_and_every_loss_is_finite(chosen, rejected, beta):
    for name in get_args(LossName):
        at_start = loss_of(name, pairs([chosen], [rejected], [chosen], [rejected]), beta)
        assert at_start.sigmoid_terms.item() == pytest.approx(math.log(2), abs=1e-6)
        away = loss_of(name, pairs([chosen], [rejected], [rejected], [chosen], noise=[0.3]), beta)
        assert math.isfinite(away.loss.item())


def test_the_config_allows_the_losses_of_the_table():
    assert TrainerSettings.model_fields["loss"].annotation == LossName
    assert ExperimentalTraining.model_fields["margin_unit"].annotation == MarginUnit
    assert set(get_args(LossName)) == set(LOSSES)
