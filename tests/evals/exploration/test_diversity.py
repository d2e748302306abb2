"""Diversity measures against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.evals.exploration.diversity import cosine_distance, coverage, distinct, self_bleu, vendi


def test_distinct_by_hand():
    assert distinct(["a b a", "a b"], 1) == 2 / 5
    assert distinct(["a b a", "a b"], 2) == 2 / 3
    assert distinct(["a"], 2) == 0


def test_self_bleu_by_hand():
    assert self_bleu([["a b c d e", "a b c d e"]]) == pytest.approx(1)
    # words 3 of 4, pairs 1 of 3, triples 0 of 2 (counts 1/2), fours 0 of 1 (counts 1/2); equally long
    expected = (3 / 4 * 1 / 3 * 0.5 / 2 * 0.5 / 1) ** (1 / 4)
    assert self_bleu([["a b c x", "c a b y"]]) == pytest.approx(expected)
    short, long = math.exp(1 - 3), (1 / 3 * 0.5 / 2 * 0.5) ** (1 / 3)
    assert self_bleu([["a", "a b c"], ["only one"]]) == pytest.approx((short + long) / 2)
    assert math.isnan(self_bleu([["only one"]]))


def test_vendi_counts_different_items():
    eye = np.eye(4)
    assert vendi(eye) == pytest.approx(4)
    assert vendi(eye[[0, 0, 0]]) == pytest.approx(1)
    assert vendi(eye[[0, 0, 1, 1]]) == pytest.approx(2)


def test_cosine_distance_by_hand():
    assert cosine_distance(np.eye(3)) == pytest.approx(1)
    assert cosine_distance(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(2)


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
@settings(max_examples=40)
def test_coverage_is_a_chance_and_grows(case):
    samples, good, k = case
    found = coverage(good, samples, k)
    assert 0 <= found <= 1
    assert coverage(good, samples, 1) == pytest.approx(good / samples)
    assert (found == 1) == (good > samples - k)
    assert k == samples or found <= coverage(good, samples, k + 1) + 1e-12
