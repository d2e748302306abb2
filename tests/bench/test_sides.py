"""bfloat16 against the float32 truth: our step is about as far from it as TRL's on the same pairs and weights."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("trl", reason="the rival is in the extra `dev`")

from drift.bench.sides import Conditions, Ours, Rival, Shape, TimedSide, make_model, make_pairs

SMALL = Shape(hidden=64, layers=2, heads=4, mlp=128, vocabulary=512, prompt=(30, 50), reply=(10, 25), scale=1.0)


def gradient(side: TimedSide, pairs) -> torch.Tensor:
    side.backward(pairs)
    return torch.cat([p.grad.flatten() for p in side.model.parameters() if p.grad is not None])


def test_bfloat16_is_about_as_far_from_the_truth_as_trls(tmp_path):
    """Over four models and their batches: where one gradient lands by chance does not decide."""
    low, exact = Conditions(dtype="bfloat16"), Conditions(dtype="float32")
    off, trls = [], []
    for seed in range(4):
        pairs = make_pairs(SMALL, 8, seed)
        truth_side = Ours(make_model(SMALL, exact, seed), exact, seed, tmp_path)
        truth = gradient(truth_side, truth_side.reference(truth_side.model, pairs))
        ours = Ours(make_model(SMALL, low, seed), low, seed, tmp_path)
        rival = Rival(make_model(SMALL, low, seed), make_model(SMALL, low, seed), low, seed, tmp_path)
        mine = gradient(ours, ours.reference(ours.model, pairs))
        theirs = gradient(rival, [replace(pair) for pair in pairs])
        off.append(float((mine - truth).norm() / truth.norm()))
        trls.append(float((theirs - truth).norm() / truth.norm()))
    assert 0 < sum(off) < 1.15 * sum(trls) < 4 * 0.01
