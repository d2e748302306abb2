"""Which method reaches high-reward replies: reward-weighted density on a map, and in the embedding space itself.

The paper (section 4.3) publishes no constants; the definition is ours. With M methods, N prompts and S samples each:
weight of a reply = its reward's rank among the M * S replies to the same prompt, in (0, 1], ties averaged;
Z_m = density of method m's replies, each with its weight; R_q = the places where Z_1 + ... + Z_M is in its top q %.
Mass share of m: its part of the density in R_q. Area share: the part of R_q in which its density is the largest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from drift.statistics import PERCENTILES, Share, draw_units

GRID = 200
TOPS = (5, 10, 20)
"""q, in per cent."""
OUTLINED_TOP_PERCENT = 10
"""q of the region R_q that is outlined on the map."""
NEIGHBOURS = 15
RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class RegionShare(Share):
    """In [0, 1], with the bootstrap interval over prompts; `seed_spread`: largest difference between maps."""

    seed_spread: float = 0.0


@dataclass(frozen=True, slots=True)
class RegionShares:
    """Of one method in R_q."""

    top_percent: int
    mass: RegionShare
    area: RegionShare


Densities = Callable[[np.ndarray], np.ndarray]
"""How often each prompt was drawn, float64 [N] -> Z, float64 [M, cells or replies]."""


def rank_weights(rewards: np.ndarray) -> np.ndarray:
    """Within-prompt ranks over all methods, in (0, 1]; rewards and result: float64 [M, N, S]."""
    methods, prompts, samples = rewards.shape
    by_prompt = rewards.transpose(1, 0, 2).reshape(prompts, methods * samples)
    ranks = rankdata(by_prompt, axis=1) / (methods * samples)
    return ranks.reshape(prompts, methods, samples).transpose(1, 0, 2)


def map_densities(points: np.ndarray, weights: np.ndarray) -> Densities:
    """Weighted Gaussian KDE per method on one grid with one bandwidth (Scott's rule over all points).

    points: float64 [M, N, S, 2]; weights: float64 [M, N, S].
    """
    flat = points.reshape(-1, 2)
    kernels = [_kernel(flat[:, axis], points.shape[:3]) for axis in (0, 1)]

    def densities(drawn: np.ndarray) -> np.ndarray:
        weighted = weights * drawn[None, :, None]
        return np.stack([
            ((kernels[0][m] * weighted[m, None]).reshape(GRID, -1) @ kernels[1][m].reshape(GRID, -1).T).ravel()
            for m in range(len(points))
        ])  # fmt: skip

    return densities


def raw_densities(embeddings: np.ndarray, weights: np.ndarray) -> Densities:
    """At each reply: the weights of its nearest neighbours (cosine, itself included) that are of method m.

    embeddings: float [M, N, S, D], L2-normalised; weights: float64 [M, N, S].
    """
    methods, prompts, samples, width = embeddings.shape
    flat = embeddings.reshape(-1, width)
    count = min(NEIGHBOURS, len(flat))
    nearest = np.argpartition(-(flat @ flat.T), count - 1, axis=1)[:, :count]
    method = np.repeat(np.arange(methods), prompts * samples)
    prompt = np.tile(np.repeat(np.arange(prompts), samples), methods)

    def densities(drawn: np.ndarray) -> np.ndarray:
        weight = weights.ravel() * drawn[prompt]
        is_drawn = drawn[prompt] > 0  # replies to prompts that were not drawn do not count as places
        return np.stack(
            [np.where(method[nearest] == m, weight[nearest], 0.0).sum(axis=1) * is_drawn for m in range(methods)]
        )

    return densities


def shares(maps: Sequence[Densities], methods: int, prompts: int) -> list[list[RegionShares]]:
    """Each method's shares in every R_q: mean over the maps (one per seed), with intervals over prompts."""
    draws = [np.bincount(drawn, minlength=prompts) for drawn in draw_units(prompts, RESAMPLES)]
    point = np.stack([_in_regions(densities(np.ones(prompts))) for densities in maps])  # [maps, q, 2, M]
    spread = point.max(axis=0) - point.min(axis=0)
    drawn = np.stack([_in_regions(maps[i % len(maps)](draw.astype(float))) for i, draw in enumerate(draws)])
    low, high = np.percentile(drawn, PERCENTILES, axis=0)
    mean = point.mean(axis=0)

    def share(q: int, kind: int, m: int) -> RegionShare:
        return RegionShare(*(float(values[q, kind, m]) for values in (mean, low, high, spread)))

    return [[RegionShares(top, share(q, 0, m), share(q, 1, m)) for q, top in enumerate(TOPS)] for m in range(methods)]


def top_region(densities: np.ndarray, top_percent: int) -> np.ndarray:
    """The places with the largest total density, bool [places]; at least one."""
    total = densities.sum(axis=0)
    count = max(1, round(total.size * top_percent / 100))
    region = np.zeros(total.size, dtype=bool)
    region[np.argsort(-total, kind="stable")[:count]] = True
    return region


def _in_regions(densities: np.ndarray) -> np.ndarray:
    """Mass and area shares in each R_q: float64 [q, 2, M]; densities: float64 [M, places]."""
    by_region = []
    for top in TOPS:
        inside = densities[:, top_region(densities, top)]
        largest = inside == inside.max(axis=0)
        by_region.append([inside.sum(axis=1) / inside.sum(), (largest / largest.sum(axis=0)).mean(axis=1)])
    return np.array(by_region)


def _kernel(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Gaussian of the distance from each grid line to each reply, float64 [M, GRID, N, S]."""
    width = values.std() * len(values) ** (-1 / 6) or 1.0  # Scott's rule in two dimensions
    lines = np.linspace(values.min() - 3 * width, values.max() + 3 * width, GRID)
    kernel = np.exp(-0.5 * ((lines[:, None] - values[None, :]) / width) ** 2) / width
    return kernel.reshape(GRID, *shape).transpose(1, 0, 2, 3)
