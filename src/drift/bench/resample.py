"""Intervals of figures by drawing whole groups (conversations, dialogues) again and again."""

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 1000

Interval = tuple[float, float]


def intervals(figures: Callable[[np.ndarray], Sequence[float]], groups: Sequence[str], seed: int) -> list[Interval]:
    """95 % bootstrap interval of each figure that `figures` makes of rows; the rows of one group stay together."""
    names, group = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(group == number) for number in range(len(names))]
    rng = np.random.default_rng(seed)
    draws = [
        figures(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(draws, (2.5, 97.5), axis=0).round(4).tolist()
    return list(zip(low, high, strict=True))
