"""Intervals by the bootstrap: resample the units that were drawn at random, prompts or conversations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % percentile-bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Interval:
    """Mean of independent units. Raises ValueError for no values."""
    if not len(values):
        raise ValueError("no values to average")
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(array.mean()), float(low), float(high))


def bootstrap_runs(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean of `values` [runs, prompts] with runs and prompts drawn anew, both with replacement.

    The same seed draws the same runs and prompts for every matrix of one shape. Raises ValueError for no values.
    """
    if not values.size:
        raise ValueError("no values to average")
    rng = np.random.default_rng(seed)
    runs, prompts = values.shape
    by_run = rng.multinomial(runs, [1 / runs] * runs, RESAMPLES) / runs
    by_prompt = rng.multinomial(prompts, [1 / prompts] * prompts, RESAMPLES) / prompts
    means = np.einsum("br,rp,bp->b", by_run, values, by_prompt, optimize=True)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))
