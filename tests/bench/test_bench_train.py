"""`drift bench train` on a tiny shape: what it says is measured, and both sides agree in float32."""

from dataclasses import replace

import pytest

pytest.importorskip("trl", reason="the rival is in the extra `dev`")

from drift.bench.sides import Conditions, Shape, make_model, make_pairs
from drift.bench.train import bench_train
from drift.errors import ConfigError

TINY = Shape(hidden=32, layers=2, heads=4, mlp=64, vocabulary=256, prompt=(20, 30), reply=(5, 12), scale=1.0)


def test_pairs_have_the_lengths_asked_for():
    pairs = make_pairs(Shape(), 50, seed=0)
    assert min(len(pair.prompt) for pair in pairs) >= 150
    assert max(len(pair.prompt) for pair in pairs) <= 250
    assert 50 <= min(len(pair.chosen) for pair in pairs) < 60 < 115 < max(len(pair.rejected) for pair in pairs) <= 125


@pytest.mark.parametrize(
    ("lengths", "scale"), [({"prompt": (30, 20)}, 1.0), ({"reply": (0, 12)}, 1.0), ({"prompt": (20, 30)}, 0.01)]
)
def test_lengths_that_no_pair_can_have_are_refused(lengths, scale):
    with pytest.raises(ConfigError, match=r"--lengths: .* leave at least one token"):
        replace(TINY, scale=scale, **lengths)


def test_a_pair_may_be_longer_than_most_models():
    assert make_model(replace(TINY, prompt=(20, 5000)), Conditions(), seed=0).config.max_position_embeddings == 5012


@pytest.mark.parametrize(
    "conditions", [Conditions(compact_rival=True), Conditions(lora=True, gradient_checkpointing=True)]
)
def test_both_sides_compute_the_same_step(conditions):
    found = bench_train(TINY, conditions, steps=1, seed=0)
    assert found.loss_difference < 2e-5
    assert found.gradient_difference < 2e-5
    assert found.ratio > 0
    assert found.tokens_per_step[0] < 0.75 * found.tokens_per_step[1]
    assert found.saved_bytes[0] < found.saved_bytes[1]
