"""`drift eval exploration`: which policy reaches high-reward replies, and how diverse its replies are."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drift.errors import PrerequisiteError
from drift.evals.exploration.diversity import cosine_distance, coverage, distinct, self_bleu, vendi
from drift.evals.exploration.regions import RegionShares, map_densities, rank_weights, raw_densities, shares
from drift.evals.exploration.results import MethodResult
from drift.progress import report_progress

UMAP_NEIGHBOURS, MIN_DISTANCE, METRIC = 15, 0.1, "cosine"


def project(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """float [n, D] -> float64 [n, 2]. Raises PrerequisiteError without the extra."""
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise PrerequisiteError("umap is missing: pip install 'drift-training[eval]'") from None
    neighbours = min(UMAP_NEIGHBOURS, len(embeddings) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap warns that a seed forces one thread: intended
        mapper = UMAP(n_neighbors=neighbours, min_dist=MIN_DISTANCE, metric=METRIC, random_state=seed, n_jobs=1)
        return np.asarray(mapper.fit_transform(embeddings), dtype=np.float64)


SEEDS = (0, 1, 2)
GOOD_QUANTILE = 0.75


@dataclass(frozen=True, slots=True)
class Sampled:
    """Equal counts for each method: texts[method][prompt][sample]; rewards: float64 [M, N, S]; embeddings: float
    [M, N, S, D], L2-normalised.
    """

    methods: tuple[str, ...]
    texts: tuple[tuple[tuple[str, ...], ...], ...]
    rewards: np.ndarray
    embeddings: np.ndarray


@dataclass(frozen=True, slots=True)
class Exploration:
    """`maps`: float64 [seeds, M, N, S, 2]; `weights`: float64 [M, N, S]."""

    results: dict[str, MethodResult]
    maps: np.ndarray
    weights: np.ndarray


def analyse(sampled: Sampled, good_from: float, seeds: Sequence[int] = SEEDS) -> Exploration:
    """A reply is good if its reward is at least `good_from`. Raises PrerequisiteError without umap."""
    methods, prompts, samples = sampled.rewards.shape
    weights = rank_weights(sampled.rewards)
    flat = sampled.embeddings.reshape(-1, sampled.embeddings.shape[-1])
    maps = []
    for done, seed in enumerate(seeds, 1):
        maps.append(project(flat, seed).reshape(methods, prompts, samples, 2))
        report_progress(done, len(seeds))
    on_map = shares([map_densities(points, weights) for points in maps], methods, prompts)
    in_space = shares([raw_densities(sampled.embeddings, weights)], methods, prompts)
    results = {name: _method(sampled, m, good_from, on_map[m], in_space[m]) for m, name in enumerate(sampled.methods)}
    return Exploration(results, np.stack(maps), weights)


def default_good(rewards: np.ndarray) -> float:
    """By default, the upper quarter of all methods' rewards is good."""
    return float(np.quantile(rewards, GOOD_QUANTILE))


def _method(
    sampled: Sampled, m: int, good_from: float, on_map: Sequence[RegionShares], in_space: Sequence[RegionShares]
) -> MethodResult:
    groups, vectors = sampled.texts[m], sampled.embeddings[m]
    every = [text for group in groups for text in group]
    samples = sampled.rewards.shape[2]
    good = (sampled.rewards[m] >= good_from).sum(axis=1)
    return MethodResult(
        mean_reward=float(sampled.rewards[m].mean()),
        distinct_1=distinct(every, 1),
        distinct_2=distinct(every, 2),
        distinct_3=distinct(every, 3),
        self_bleu=self_bleu(groups),
        vendi=float(np.mean([vendi(v) for v in vectors])),
        vendi_pooled=vendi(vectors.reshape(-1, vectors.shape[-1])),
        cosine_distance=float(np.mean([cosine_distance(v) for v in vectors])),
        coverage={k: float(np.mean([coverage(int(c), samples, k) for c in good])) for k in _powers(samples)},
        map=tuple(on_map),
        raw=tuple(in_space),
    )


def _powers(most: int) -> list[int]:
    return sorted({k for k in (1, 2, 4, 8, 16, 32, 64) if k < most} | {most})
