"""The constants of the published protocols, and of our own where nothing is published (docs/evaluation.md).

A changed constant gives figures that look right and compare with nobody's.
"""

import pytest

from drift import statistics
from drift.evals.alpaca_eval import annotations, length_control, metrics
from drift.evals.alpaca_eval import judge as alpaca_judge
from drift.evals.exploration import analyse, regions
from drift.evals.wildbench import elo, reward, scores, tasks, versus
from drift.evals.wildbench import judge as wild_judge
from drift.evals.wildbench.elo import cast_votes
from drift.evals.wildbench.scores import ModelScores, ScoredReply

ALPACA_EVAL = {
    "instructions": (annotations.INSTRUCTIONS, 805),
    "baseline": (annotations.BASELINE, "gpt4_1106_preview"),
    "annotator": (metrics.OFFICIAL_ANNOTATOR, "weighted_alpaca_eval_gpt4_turbo"),
    "judge": (alpaca_judge.OFFICIAL_JUDGE, "gpt-4-1106-preview"),
    "answer": ((alpaca_judge.MAX_TOKENS, alpaca_judge.TEMPERATURE, alpaca_judge.CANDIDATES), (1, 1.0, 5)),
    "order": ((alpaca_judge.FIRST, alpaca_judge.SECOND, alpaca_judge.SEED), ("m", "M", 0)),
}
WILDBENCH = {
    "tasks": (scores.TASKS, 1024),
    "cut": (scores.CUT, "... (truncated)"),
    "score judge": (wild_judge.OFFICIAL_JUDGE, "gpt-4o-2024-05-13"),
    "words": (wild_judge.MAX_WORDS, 1000),
    "weights of groups": (list(tasks.WEIGHTS.values()), [0.5, 1.25, 1.0, 0.75, 1.25]),
    "K": (reward.MARGIN, 500),
    "choices": (versus.PREFERENCES, {"A++": 0, "A+": 0.25, "A=B": 0.5, "B+": 0.75, "B++": 1}),
    "margins of a vote": ((elo.SCORE_MARGIN, elo.LENGTH_MARGIN_CHARACTERS), (2, 1500)),
    "Elo": ((elo.STEP, elo.SCALE, elo.START, elo.SHUFFLES), (4, 400, 1000, 128)),
    "percentiles": (statistics.PERCENTILES, (2.5, 97.5)),
}
EXPLORATION = {
    "UMAP": ((analyse.UMAP_NEIGHBOURS, analyse.MIN_DISTANCE, analyse.METRIC), (15, 0.1, "cosine")),
    "seeds": (analyse.SEEDS, (0, 1, 2)),
    "grid": (regions.GRID, 200),
    "q": (regions.TOPS, (5, 10, 20)),
    "neighbours": (regions.NEIGHBOURS, 15),
}
PROTOCOLS = ALPACA_EVAL | WILDBENCH | EXPLORATION


@pytest.mark.parametrize(("ours", "protocol"), PROTOCOLS.values(), ids=PROTOCOLS)
def test_constants(ours, protocol):
    assert ours == protocol


def test_the_length_controlled_fit_has_the_penalties_and_folds_of_the_original():
    strengths = [1e-4 * 10 ** (8 * i / 9) for i in range(10)]
    assert length_control.STRENGTHS.tolist() == pytest.approx(strengths)
    assert (length_control.FOLDS, length_control.SEED, length_control.GAMED_WEIGHT) == (5, 123, 0.1)


def test_a_vote_at_the_margins_and_beyond():
    """Two points win, up to a difference of 1500 characters; a point less or a character more is a tie."""
    of_a = [(9, 3500), (9, 2000), (9, 3501), (7, 500), (7, 499)]
    of_b = [(7, 2000), (8, 2000), (7, 2000), (9, 2000), (9, 2000)]
    votes = cast_votes([scored("a", of_a), scored("b", of_b)])
    assert votes.result.tolist() == [1, 0.5, 0.5, 0, 0.5]


def scored(name: str, replies: list[tuple[int, int]]) -> ModelScores:
    rows = tuple(ScoredReply(str(i), score, length, False) for i, (score, length) in enumerate(replies))
    return ModelScores(name, name, "file", rows, 0)
