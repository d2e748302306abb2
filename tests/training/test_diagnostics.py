"""Lemma 1's two sides by hand and against autograd, and what a step says about where log p has gone."""

import json
import math

import pytest
import torch

from drift.config import PolicySettings, TrainingSettings
from drift.policy.model import load_policy
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.training.batch import StepCollator, summed_logps
from drift.training.diagnostics import PairGradient, lemma_1, overshot, pair_gradients, step_diagnostics, unmoved
from drift.training.loss import PairLoss
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.shared_prefix import choose_packing
from drift.training.tokens import TokenPair
from drift.training.train import train


def test_lemma_1_by_hand():
    found = lemma_1([PairGradient(0.5, 2.0, 30.0), PairGradient(0.1, 1.0, 10.0)], beta=0.1, tau=0.25)
    assert found == pytest.approx(
        {
            "lemma_1/pairs": 2,
            "lemma_1/gradient_norm": 1.5,
            "lemma_1/bound": 0.1 * 0.25 * 0.5 * 30.0,
            "lemma_1/p0": 0.5,
            "lemma_1/difference_norm": 30.0,
        }
    )
    assert lemma_1([PairGradient(0.1, 1.0, 10.0)], 0.1, 0.25)["lemma_1/bound"] == 0.0


def test_a_pairs_gradient_is_beta_sigma_times_the_difference(tiny_policy):
    model = load_policy(tiny_policy, PolicySettings()).model
    collate = StepCollator(0, 1000, choose_packing(model).shared)
    pairs = [TokenPair((11, 12), (21, 22), (31,), ref_chosen_logps=-9.0, ref_rejected_logps=-2.0)]
    settings = TrainingSettings(rpo_alpha=0.0, beta=0.3)
    (found,) = pair_gradients(model, pairs, collate, settings, torch.float32)
    assert found.gradient == pytest.approx(0.3 * found.sigma * found.difference, rel=1e-4)
    chosen, rejected = summed_logps(model, collate(pairs)[0], torch.float32)[0]
    gradients = torch.autograd.grad(chosen - rejected, list(model.parameters()))
    assert found.difference == pytest.approx(float(torch.cat([g.flatten() for g in gradients]).norm()), rel=1e-5)
    assert found.sigma == pytest.approx(1 / (1 + math.exp(0.3 * float((chosen + 9 - rejected - 2).detach()))), rel=1e-4)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_step_by_hand():
    pairs = [
        TokenPair((1,), (2,), (3,), history=(-4.0, -5.0, -6.0, -8.0)),
        TokenPair((1,), (2,), (3, 4), history=(-2.0, -3.0, -2.0, -3.0)),
    ]
    batches = StepCollator(0, 1000, True)(pairs[::-1])  # longest first, so in this order
    s = torch.tensor([0.0, 2.0])
    losses = [PairLoss(torch.zeros(()), -torch.nn.functional.logsigmoid(s), s, s)]
    found = step_diagnostics(losses, batches, [torch.tensor([[-1.0, -4.0], [-4.0, -7.0]])], tau=0.25)
    assert found == pytest.approx(
        {
            "sigma/mean": (0.5 + 1 / (1 + math.exp(2))) / 2,
            "sigma/above_tau": 0.5,
            "logps/chosen_since_iteration": (1.0 + 0.0) / 2,
            "logps/rejected_since_iteration": (-1.0 - 2.0) / 2,
            "logps/chosen_since_warm_start": (1.0 + 2.0) / 2,
            "logps/rejected_since_warm_start": (-1.0 + 1.0) / 2,
        }
    )


def test_an_iteration_writes_both_sides_at_its_start_and_end(tiny_policy, tmp_path):
    replies = [(ChatMessage("assistant", text),) for text in ("good answer", "no idea")]
    rows = [
        PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", (ChatMessage("user", f"{n}?"),), *replies)
        for n in range(6)
    ]
    same = PreferencePair("s", "s", "c", 1, "drift", 1, "x", (ChatMessage("user", "?"),), replies[0], replies[0])
    write_jsonl(tmp_path / "pairs.jsonl", [*rows, same])
    settings = TrainingSettings(
        learning_rate=1e-3, optimizer="adamw_torch", batch_size=3, diagnostics=True, rpo_alpha=0.0, warmup_ratio=0.0
    )
    reference = tmp_path / "reference.safetensors"
    measure_reference(
        reference, (tiny_policy,) * 3, tmp_path / "pairs.jsonl", ReferenceSettings.of(settings, PolicySettings())
    )
    counts = train(
        tmp_path / "it" / "policy", tiny_policy, reference, tmp_path / "pairs.jsonl", settings, PolicySettings(), 1
    )
    written = [json.loads(line) for line in (tmp_path / "it" / "metrics.jsonl").read_text().splitlines()]
    assert counts["dropped.chosen_is_rejected"] == 1
    assert [row["step"] for row in written] == [0, 1, 2, 2]
    start, first, last, end = written
    for row in (start, end):
        assert row["pairs/identical"] == pytest.approx(1 / 7)
        assert row["lemma_1/gradient_norm"] >= row["lemma_1/bound"] >= 0
    assert start["lemma_1/bound"] > 0
    assert (start["lemma_1/p0"], first["sigma/mean"]) == pytest.approx((1.0, 0.5), abs=1e-4)
    assert first["logps/chosen_since_iteration"] == pytest.approx(0.0, abs=1e-3)
    assert last["logps/rejected_since_warm_start"] < 0 < last["logps/chosen_since_warm_start"]


@pytest.mark.parametrize(
    ("margins", "told"),
    [
        ([0.0, 0.01, -0.004, 0.001], "4 steps at 5e-06 moved the margin by 0.010 nats"),  # last quarter: .001 / beta
        ([0.0], ""),  # measured before the only update
        ([0.0, 0.006], ""),  # 0.06 nats
        ([0.0, 0.004], "2 steps at 5e-06 moved the margin by 0.040 nats"),
        ([0.0, 0.02, 0.04, 0.06], ""),  # 0.6 nats
        ([0.3, 0.3, 0.2, 0.2], ""),  # moved the wrong way: not this warning's business
        ([0.3, 0.3, 0.3, 0.3], "moved the margin by 0.000 nats"),  # large, but from the beginning
    ],
)
def test_a_training_that_moves_nothing_says_so(margins, told):
    rows = [{"rewards/margins": margin, "learning_rate": 5e-6} for margin in margins]
    found = unmoved(rows, beta=0.1, learning_rate=5e-6)
    assert told in found
    assert bool(found) == bool(told)
    assert not found or found.endswith("raise the learning_rate or train on more pairs.")


def test_a_training_that_is_all_warm_up_says_so():
    """transformers begins its warm-up at rate 0, so the only step of a training with a warm-up moves no weight."""
    assert unmoved([{"learning_rate": 0.0}], beta=0.1, learning_rate=5e-6) == (
        "Warning: 1 step at rate 0, all of it warm-up: set warmup_ratio to 0 or train on more pairs."
    )
    assert "rate 0" in unmoved([{"learning_rate": 0.0}], 0.1, 5e-6, "chosen")  # SFT on one liked reply


def test_the_only_update_is_the_last_step_and_nobody_saw_what_it_moved():
    rows = [{"learning_rate": rate, "rewards/margins": 0.0} for rate in (0.0, 1e-3, 5e-4)]
    assert unmoved(rows[:2], 0.1, 1e-3) == ""  # one step of warm-up, then one that is measured before its update
    assert unmoved(rows, 0.1, 1e-3).startswith("Warning: 3 steps at 0.001 moved the margin by 0.000 nats")


def test_sft_has_no_margin_and_its_replies_are_watched():
    rows = [{"learning_rate": 5e-7, "rewards/chosen": reward} for reward in (0.0, 0.001, -0.001, 0.002)]
    assert unmoved(rows, 0.1, 5e-7, "chosen").startswith(
        "Warning: 4 steps at 5e-07 moved the log-prob of the replies by 0.020"
    )
    rows[-1]["rewards/chosen"] = 0.5
    assert unmoved(rows, 0.1, 5e-7, "chosen") == ""


def test_a_loss_that_pulls_replies_back_is_warned_of():
    anchored = TrainingSettings(loss="anchored", margin=3.0)
    rows = [{"step": 1, "loss": 18.0}, {"step": 2, "loss": 134.4}, {"step": 3, "loss": 21.4}]
    assert "the loss of step 2 is 134, and 18 before anything is learned" in overshot(rows, anchored)
    assert overshot([{"step": 1, "loss": 18.0}, {"step": 2, "loss": 53.9}], anchored) == ""
    assert overshot(rows, anchored.model_copy(update={"loss": "anchored_hinge"})) == ""
