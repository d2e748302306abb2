"""Estimates with 95 % intervals: the bootstrap over groups, Beta posteriors of shares, paired differences, kappa.

Intervals are the 2.5 and 97.5 percentiles of the draws. Every function takes its seed and its number of draws, so a
figure can be computed again digit by digit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000  # of a bootstrap
POSTERIOR_DRAWS = 4000
PERCENTILES = (2.5, 97.5)
Z = 1.959964
"""Standard errors of a normal estimate on either side of it in its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Share:
    """An estimate (a share, a mean or a mean difference) with its 95 % interval."""

    value: float
    low: float
    high: float

    def rounded(self, digits: int = 4) -> "Share":
        return Share(round(self.value, digits), round(self.low, digits), round(self.high, digits))


def share_of_draws(value: float, draws: NDArray[np.float64]) -> Share:
    """`value` with the percentiles of `draws` [n]."""
    low, high = np.percentile(draws, PERCENTILES)
    return Share(float(value), float(low), float(high))


class OfUser(Protocol):
    """Something that a user wrote in a chat: see `Conversation.user` and `Conversation.chat`."""

    @property
    def user(self) -> str: ...

    @property
    def chat(self) -> str: ...


def units_of(rows: Sequence[OfUser]) -> list[str]:
    """Of each row the unit that was drawn at random: its user, because one user's rows are alike. If a single user
    wrote all, the chat: what they show is then true of this user alone."""
    users = [row.user for row in rows]
    return users if len(set(users)) > 1 else [row.chat for row in rows]


def unit_name(rows: Sequence[OfUser]) -> str:
    """What `units_of` tells apart: `user`, or `chat` if a single user wrote all or the log names nobody."""
    is_named = any(row.user != row.chat for row in rows)
    return "user" if is_named and len({row.user for row in rows}) > 1 else "chat"


def units_in_words(rows: Sequence[OfUser]) -> str:
    """For a message: "12 users" or "1 chat"."""
    units = len(set(units_of(rows)))
    return f"{units:,} {unit_name(rows)}{'' if units == 1 else 's'}"


# Bootstrap: resample the units that were drawn at random (prompts, users, runs), never single rows of one unit.


def draw_units(units: int, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """Which units each resample holds: int64 [resamples, units], each in [0, units), with replacement."""
    return np.random.default_rng(seed).integers(0, units, (resamples, units))


def _numbered(units: Sequence[str] | None, values: int) -> Sequence[int]:
    """Of each value the number of its unit. Units count in their order of appearance, which fixes the draws.

    Without `units` each value is one of its own. So it is if all are of one unit: the result is then about it alone.
    """
    names = dict.fromkeys(units or ())
    if units is None or len(names) == 1:
        return range(values)
    number = {name: i for i, name in enumerate(names)}
    return [number[unit] for unit in units]


def bootstrap_mean(
    values: ArrayLike, seed: int = 0, resamples: int = RESAMPLES, units: Sequence[str] | None = None
) -> Share:
    """Mean over values; those of one unit (`units_of`) are drawn together. Without `units` each is one of its own.

    Raises ValueError for no values.
    """
    array = np.asarray(values, dtype=np.float64)
    share = bootstrap_ratio(array, np.ones(len(array)), _numbered(units, len(array)), seed, resamples)
    if share is None:
        raise ValueError("no values to average")
    return share


def paired_difference(
    before: Sequence[float],
    after: Sequence[float],
    seed: int = 0,
    resamples: int = RESAMPLES,
    units: Sequence[str] | None = None,
) -> Share:
    """Mean of `after` - `before` over the same values, in the same order; `units`: as of `bootstrap_mean`.

    Raises ValueError for no values, or if the lengths differ.
    """
    return bootstrap_mean([b - a for a, b in zip(before, after, strict=True)], seed, resamples, units)


def standard_error(values: NDArray[np.float64], units: Sequence[str] | None = None) -> float:
    """Of the mean of `values` [n], from the sums of each unit's deviations; `units`: as of `bootstrap_mean`."""
    sums = np.bincount(_numbered(units, len(values)), values - values.mean())
    return float(sums.std(ddof=1) * np.sqrt(len(sums)) / len(values))


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, groups: Sequence[object], seed: int = 0, resamples: int = RESAMPLES
) -> Share | None:
    """sum(numerators) / sum(denominators) over rows; rows of one group are drawn together. None if the sum below is 0.

    With ones for denominators it is the mean over rows. Draws without anything in the denominator are left out.
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if not below.sum():
        return None
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    above_by_group, below_by_group = np.bincount(group, above), np.bincount(group, below)
    drawn = draw_units(len(above_by_group), resamples, seed)
    totals = below_by_group[drawn].sum(axis=1)
    ratios = above_by_group[drawn].sum(axis=1)[totals > 0] / totals[totals > 0]
    return share_of_draws(above.sum() / below.sum(), ratios)


def bootstrap_figures(
    figures: Callable[[NDArray[np.int64]], Sequence[float]],
    groups: Sequence[object],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Share]:
    """Each figure that `figures` computes from row numbers; rows of one group are drawn together.

    For figures that are not a ratio of sums (AUROC, F1). `figures` is called once on all rows, then on each resample.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    rows = [np.flatnonzero(group == number) for number in range(len(names))]
    draws = [
        figures(np.concatenate([rows[unit] for unit in drawn])) for drawn in draw_units(len(rows), resamples, seed)
    ]
    values = figures(np.arange(len(group)))
    return [share_of_draws(value, column) for value, column in zip(values, np.transpose(draws), strict=True)]


def bootstrap_runs(values: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES) -> Share:
    """Mean of `values` [runs, prompts]; runs and prompts are both resampled with replacement.

    The same seed draws the same runs and prompts for every matrix of one shape. Raises ValueError for no values.
    """
    if not values.size:
        raise ValueError("no values to average")
    rng = np.random.default_rng(seed)
    runs, prompts = values.shape
    by_run = rng.multinomial(runs, [1 / runs] * runs, resamples) / runs
    by_prompt = rng.multinomial(prompts, [1 / prompts] * prompts, resamples) / prompts
    return share_of_draws(values.mean(), np.einsum("br,rp,bp->b", by_run, values, by_prompt, optimize=True))


# Beta posterior with Jeffreys' prior, Beta(1/2, 1/2): sound for few judged items, where the bootstrap is not.


@dataclass(frozen=True, slots=True)
class Stratum:
    """`size` items, of which `judged` were drawn at random; `hits` of these are positive (a tie is half a hit)."""

    size: int
    judged: int
    hits: float

    def posterior(self, rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
        """Draws of the share of positive items, float64 [draws]."""
        return rng.beta(self.hits + 0.5, self.judged - self.hits + 0.5, draws)


def posterior_share(hits: float, judged: int, seed: int = 0, draws: int = POSTERIOR_DRAWS) -> Share | None:
    """`hits` of `judged`. None if nothing was judged."""
    if not judged:
        return None
    posterior = Stratum(judged, judged, hits).posterior(np.random.default_rng(seed), draws)
    return share_of_draws(hits / judged, posterior)


@dataclass(frozen=True, slots=True)
class StratifiedEstimate:
    """`prevalence`: share of positive items in both strata; `recall`: share of these that are in the first stratum.

    None: a stratum with items has no judged one, or (recall) no item is positive.
    """

    prevalence: Share | None
    recall: Share | None


def estimate_strata(first: Stratum, second: Stratum, seed: int = 0, draws: int = POSTERIOR_DRAWS) -> StratifiedEstimate:
    """Two strata N1, N2 with positive shares p, q: prevalence (N1 p + N2 q) / (N1 + N2), recall N1 p / (N1 p + N2 q).

    An empty stratum holds no positive item: it needs no judged one.
    """
    strata = (first, second)
    total = first.size + second.size
    if not total or any(stratum.size and not stratum.judged for stratum in strata):
        return StratifiedEstimate(None, None)
    rng = np.random.default_rng(seed)
    in_first, in_second = (stratum.size * stratum.posterior(rng, draws) for stratum in strata)
    hits, misses = (stratum.size * stratum.hits / max(stratum.judged, 1) for stratum in strata)
    positives = hits + misses
    return StratifiedEstimate(
        prevalence=share_of_draws(positives / total, (in_first + in_second) / total),
        recall=share_of_draws(hits / positives, in_first / (in_first + in_second)) if positives else None,
    )


def cohens_kappa(first: Sequence[str | bool], second: Sequence[str | bool]) -> float | None:
    """Agreement of two raters beyond chance. None if it is undefined: no items, or one class alone on both sides."""
    if len(set(first) | set(second)) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score  # slow to import

    return float(cohen_kappa_score(list(first), list(second)))
