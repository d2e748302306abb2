"""What two models' outcomes on the same items show: the change, its interval, and how many more would decide.

A change is NEW minus OLD. It is held against a margin: a guard passes if the change is shown to be above -margin, and
fails if it is shown to be below. So each guard asks one question, and both answers carry a stated error rate.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

GateVerdict = Literal["pass", "fail", "blind", "undecided"]

MOST_FURTHER = 1_000_000
"""More items, or groups of them, than this would decide nothing that matters."""


@dataclass(frozen=True, slots=True)
class Levels:
    """One-sided error rates of a guard's two bounds: `passing` of that which lets it pass, `failing` of the other."""

    passing: float
    failing: float


@dataclass(frozen=True, slots=True)
class Change:
    """NEW minus OLD over `items`. `low`, `high`: the bounds at the level of passing; `fail_low`, `fail_high`: at that
    of failing. `with_more`: the change with so many times the items, if they go on in the same shares, at other levels:
    for planning. `units`: the independent groups (users) of these items; None: each item counts for itself."""

    items: int
    value: float
    low: float
    high: float
    fail_low: float
    fail_high: float
    with_more: "Callable[[float, Levels], Change]" = field(repr=False, compare=False)
    units: int | None = None


def rate_change(lost: float, gained: float, items: float, levels: Levels, effect: float = 1.0) -> Change:
    """The change of a share of right answers. `lost`: items that OLD alone has right, `gained`: NEW alone.

    Bounds by Tango's score method for paired proportions (Statistics in Medicine 17, 1998), which keeps its level with
    few differing items, where the normal interval does not. `effect`: items that depend on each other count as
    `items` / `effect` independent ones (`design_effect`). Raises ValueError for no items.
    """
    if items <= 0:
        raise ValueError("no items to compare")

    def bound(level: float, side: int) -> float:
        z = NormalDist().inv_cdf(1 - level)
        counts = lost / effect, gained / effect, items / effect
        return _root(lambda change: tango_z(*counts, change) - side * z)

    return Change(
        items=round(items),
        value=(gained - lost) / items,
        low=bound(levels.passing, 1),
        high=bound(levels.passing, -1),
        fail_low=bound(levels.failing, 1),
        fail_high=bound(levels.failing, -1),
        with_more=lambda times, later: rate_change(lost * times, gained * times, items * times, later, effect),
    )


def tango_z(lost: float, gained: float, items: float, change: float) -> float:
    """The score statistic of H0: gained share minus lost share = `change`. At 0 it is McNemar's z."""
    variance = items * _score_variance(lost / items, gained / items, change)
    distance = gained - lost - items * change
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def design_effect(changes: Sequence[float], groups: Sequence[object]) -> float:
    """How much larger the variance of the mean is than that of independent items, because items of one group are alike.

    The cluster-robust variance over the plain one; at least 1, and 1 if nothing changes.
    """
    if len(set(groups)) < 2:
        return float(max(len(changes), 1))
    alone, together = (_squares(*_grouped(changes, each)) for each in (None, groups))
    return max(together / alone, 1.0) if alone else 1.0


def _grouped(
    changes: Sequence[float], groups: Sequence[object] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum of the changes of each group, and its size; without groups each item is one."""
    _, place = np.unique(np.asarray(range(len(changes)) if groups is None else groups), return_inverse=True)
    values = np.asarray(changes, dtype=np.float64)
    return np.bincount(place, values).astype(np.float64), np.bincount(place).astype(np.float64)


def _squares(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """The cluster-robust variance of the sum of all changes."""
    residuals = sums - sums.sum() / sizes.sum() * sizes
    return float((residuals**2).sum()) * len(sums) / (len(sums) - 1)


def _score_variance(lost: float, gained: float, change: float) -> float:
    """Of one item's difference under H0, with the share lost at its constrained maximum likelihood (Tango 1998)."""
    b = -(gained + lost) + (2 - gained + lost) * change
    c = -lost * change * (1 - change)
    constrained = (math.sqrt(max(b * b - 8 * c, 0.0)) - b) / 4
    return max(2 * constrained + change * (1 - change), 0.0)


def _root(falling: Callable[[float], float]) -> float:
    """The zero of a function on [-1, 1] that falls, by bisection to 1e-9; an end of it if there is none."""
    low, high = -1.0, 1.0
    for _ in range(31):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def mean_change(
    changes: Sequence[float], groups: Sequence[object] | None, levels: Levels, largest: float | None = None
) -> Change:
    """The mean over groups of the mean of their changes. The items of one group (a user) are alike, so a group counts
    once, however many items it has: a mean over items would rest on the few largest groups, and its bounds err more
    often than stated.

    `largest`: the size that no single change exceeds, and the bounds are those of `bounded_low`. Without it they are
    Student's t. Raises ValueError for fewer than two groups.
    """
    values = _group_means(changes, groups)
    if len(values) < 2:
        raise ValueError("fewer than two independent items")
    mean, worst = float(values.mean()), None if largest is None else -max(largest, *map(abs, changes))

    def of(times: float, levels: Levels) -> Change:
        sides = [(level, side) for level in (levels.passing, levels.failing) for side in (1, -1)]
        if worst is None:
            bounds = [mean - side * _students_error(values, times, level) for level, side in sides]
        else:
            bounds = [side * bounded_low(side * values, worst, level, times) for level, side in sides]
        units = None if len(values) == len(changes) else round(times * len(values))
        return Change(round(times * len(changes)), mean, *bounds, with_more=of, units=units)

    return of(1.0, levels)


def group_mean(values: Sequence[float], groups: Sequence[object]) -> float:
    """The mean in which each group counts once."""
    return float(_group_means(values, groups).mean())


def _group_means(values: Sequence[float], groups: Sequence[object] | None) -> NDArray[np.float64]:
    sums, sizes = _grouped(values, groups)
    return sums / sizes


def _students_error(values: NDArray[np.float64], times: float, level: float) -> float:
    """Half of the interval of the mean, with each value `times` times."""
    from scipy.stats import t as student  # slow to import

    count = times * len(values)
    return math.sqrt(float(values.var()) / (count - 1)) * float(student.ppf(1 - level, count - 1))


def bounded_low(values: NDArray[np.float64], worst: float, level: float, times: float = 1.0) -> float:
    """The lower bound of a mean whose single values are never below `worst` (Gaffke 2005; Learned-Miller and Thomas
    2020): the quantile `level` of sum(D_i x_i), with one more value x_0 = `worst`, and D uniform on the simplex.

    What has not been seen may still be there: without any change in 20 items, at 2 %, it is -.18 and not 0, and 5 wins
    of 5 are no gain (the sign test says 3.1 %). For two values it is the bound of Clopper and Pearson, for wins and
    losses around 0 the exact sign test. `values`: float64 [n]; `times`: how often each is there.
    """
    from scipy.optimize import brentq  # slow to import

    counts = np.append(np.full(len(values), times), 1.0)
    values = np.append(values, worst)
    best = float(values.max())
    if best <= worst:
        return worst
    bound: Any = brentq(lambda mean: _below_zero(values - mean, counts) - level, worst, best, xtol=1e-9)
    return float(bound)


def _below_zero(weights: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """P(sum(w_i E_i) <= 0) for independent exponential E, each w_i as often as `counts` says (float64 [n]), by the
    saddlepoint of its generating function -sum(log(1 - s w_i)) (Lugannani and Rice 1980). The ratio of E_i to their sum
    is D_i."""
    if weights.max() <= 0 or weights.min() >= 0:
        return float(weights.max() <= 0)
    ends, saddle = (1 / float(weights.min()), 1 / float(weights.max())), 0.0
    for _ in range(200):  # Newton; where a step would leave the domain, half the way to its end
        slopes = weights / (1 - saddle * weights)
        step = -float(counts @ slopes) / float(counts @ slopes**2)
        further = saddle + step
        saddle = further if ends[0] < further < ends[1] else (saddle + ends[further > 0]) / 2
        if abs(step) * float(np.abs(slopes).max()) < 1e-9:
            break
    slopes = weights / (1 - saddle * weights)
    root = math.copysign(math.sqrt(max(2 * float(counts @ np.log1p(-saddle * weights)), 0.0)), saddle)
    if abs(root) < 1e-4:  # the formula has a gap where the mean is
        return 0.5
    normal = NormalDist()
    return normal.cdf(root) + normal.pdf(root) * (1 / root - 1 / (saddle * math.sqrt(float(counts @ slopes**2))))


def verdict_on(change: Change, margin: float, both_sides: bool) -> GateVerdict:
    """`both_sides`: a rise above the margin is as bad as a fall (the length of replies)."""
    if change.low > -margin and (not both_sides or change.high < margin):
        return "pass"
    if change.fail_high < -margin or (both_sides and change.fail_low > margin):
        return "fail"
    return "undecided"


def further_units(change: Change, margin: float, both_sides: bool, levels: Levels) -> int | None:
    """How many more items, or more of the groups that they come in, would decide at the next look, whose levels these
    are, if they go on changing in the same shares; None if no reasonable number would.

    Further items of the same groups would decide nothing: a further group brings as many items as one has now.
    """
    now = change.units or change.items

    def decides(further: int) -> bool:
        later = change.with_more(1 + further / now, levels)
        return verdict_on(later, margin, both_sides) != "undecided"

    most = 1
    while not decides(most):
        most *= 2
        if most > MOST_FURTHER:
            return None
    fewer = range(most // 2 + 1, most)
    return fewer.start + bisect_left(fewer, True, key=decides)
