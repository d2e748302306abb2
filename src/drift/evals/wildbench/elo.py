"""WB-Elo: the scores of two models on one task make a virtual vote; ratings are means over shuffles of the votes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from drift.evals.wildbench.scores import ModelScores, ScoredReply
from drift.statistics import PERCENTILES

SCORE_MARGIN = 2
"""A vote is won by at least this many points."""
LENGTH_MARGIN_CHARACTERS = 1500
"""If the lengths differ by more, the vote is a tie, whatever the scores."""
STEP, SCALE, START = 4.0, 400.0, 1000.0
SHUFFLES, SEED = 128, 42


@dataclass(frozen=True, slots=True)
class Elo:
    """Mean over the shuffles, with the 2.5 and 97.5 percentiles."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Votes:
    """`first`, `second`: int64 [V], numbers of models; `result`: float64 [V], 1 where the first wins, 0.5 for a tie."""

    first: np.ndarray
    second: np.ndarray
    result: np.ndarray


def rate(models: Sequence[ModelScores]) -> dict[str, Elo]:
    """Elo of every model, all starting at 1000; comparable only within one call."""
    ratings = play(cast_votes(models), len(models))
    low, high = np.percentile(ratings, PERCENTILES, axis=0)
    mean = ratings.mean(axis=0)
    return {m.name: Elo(float(mean[i]), float(low[i]), float(high[i])) for i, m in enumerate(models)}


def cast_votes(models: Sequence[ModelScores]) -> Votes:
    """One vote per task and pair of models that both have a reply that is neither empty nor truncated."""
    replies = [{r.session_id: r for r in model.replies if not r.skipped} for model in models]
    votes = [
        (a, b, _result(of_a.score - of_b.score, _characters(of_a, of_b)))
        for a, b in combinations(range(len(models)), 2)
        for session_id, of_a in replies[a].items()
        if (of_b := replies[b].get(session_id)) is not None
    ]
    first, second, result = zip(*votes, strict=True) if votes else ((), (), ())
    return Votes(np.array(first, dtype=np.int64), np.array(second, dtype=np.int64), np.array(result, dtype=np.float64))


def play(votes: Votes, models: int) -> np.ndarray:
    """Ratings after all votes, float64 [shuffles, models]; all shuffles in parallel."""
    rng = np.random.default_rng(SEED)
    orders = np.stack([rng.permutation(len(votes.result)) for _ in range(SHUFFLES)])
    ratings = np.full((SHUFFLES, models), START)
    rows = np.arange(SHUFFLES)
    for vote in orders.T:
        first, second = votes.first[vote], votes.second[vote]
        expected = 1 / (1 + 10 ** ((ratings[rows, second] - ratings[rows, first]) / SCALE))
        change = STEP * (votes.result[vote] - expected)
        ratings[rows, first] += change
        ratings[rows, second] -= change
    return ratings


def _characters(first: ScoredReply, second: ScoredReply) -> int:
    """The difference of the lengths; 0 if one of them is not known: then no length makes the vote a tie."""
    return 0 if first.length is None or second.length is None else first.length - second.length


def _result(points: float, characters: int) -> float:
    if abs(characters) > LENGTH_MARGIN_CHARACTERS or abs(points) < SCORE_MARGIN:
        return 0.5
    return 1.0 if points > 0 else 0.0
