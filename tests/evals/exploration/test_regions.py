"""Shares of the regions of high reward: symmetric, adding up, and right where the answer is known."""

import numpy as np
import pytest

from drift.evals.exploration import regions
from drift.evals.exploration.regions import map_densities, rank_weights, raw_densities, shares, top_region

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """What holds on a map of 200 x 200 holds on this one."""
    monkeypatch.setattr(regions, "GRID", 60)
    monkeypatch.setattr(regions, "RESAMPLES", 50)


def test_ranks_by_hand():
    rewards = np.array([[[1.0, 5.0]], [[5.0, 7.0]]])  # two methods, one prompt, two samples
    assert rank_weights(rewards).tolist() == [[[0.25, 0.625]], [[0.625, 1.0]]]


def test_the_top_region_has_its_size_and_the_largest_places():
    region = top_region(np.array([[0.0, 1.0, 2.0, 3.0], [3.0, 0.0, 0.0, 1.0]]), 50)
    assert region.tolist() == [True, False, False, True]
    assert top_region(np.ones((1, 10)), 5).sum() == 1


def test_who_has_the_reward_has_the_region():
    """Method 0's replies are all better and lie elsewhere: the densest part of the map is its own."""
    points = RNG.normal(size=(2, 30, 4, 2))
    points[1] += 40
    rewards = np.stack([np.ones((30, 4)), np.zeros((30, 4))])
    good, bad = shares([map_densities(points, rank_weights(rewards))], 2, 30)
    for one, other in zip(good, bad, strict=True):
        assert one.mass.value + other.mass.value == pytest.approx(1)
        assert one.area.value + other.area.value == pytest.approx(1)
    assert good[0].mass.value > bad[0].mass.value
    assert good[0].mass.low > 0.6


def test_equal_methods_share_equally():
    points = np.repeat(RNG.normal(size=(1, 20, 3, 2)), 2, axis=0)
    weights = rank_weights(np.repeat(RNG.normal(size=(1, 20, 3)), 2, axis=0))
    for found in shares([map_densities(points, weights)], 2, 20)[0]:
        assert (found.mass.value, found.mass.low, found.mass.high) == pytest.approx((0.5, 0.5, 0.5))
        assert found.area.value == pytest.approx(0.5)


def test_in_space_a_neighbourhood_belongs_to_who_lives_there():
    axis = np.zeros((2, 20, 2, 3))
    axis[0, ..., 0] = axis[1, ..., 1] = 1  # two directions, one method each
    axis += RNG.normal(size=axis.shape) * 0.01
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    weights = np.stack([np.ones((20, 2)), np.full((20, 2), 0.1)])
    densities = raw_densities(axis, weights)(np.ones(20))
    assert (densities[0].reshape(2, 20, 2)[1] == 0).all()
    assert (densities[1].reshape(2, 20, 2)[0] == 0).all()
    assert shares([raw_densities(axis, weights)], 2, 20)[0][1].mass.value == pytest.approx(1)


def test_swapping_the_methods_swaps_the_shares():
    points, rewards = RNG.normal(size=(2, 15, 3, 2)), RNG.normal(size=(2, 15, 3))
    one = shares([map_densities(points, rank_weights(rewards))], 2, 15)
    other = shares([map_densities(points[::-1], rank_weights(rewards[::-1]))], 2, 15)
    assert [s.mass.value for s in one[0]] == pytest.approx([s.mass.value for s in other[1]])
