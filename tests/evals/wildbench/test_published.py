"""WildBench's arithmetic against the published leaderboard, for every model in it."""

import json
from pathlib import Path

import pytest

from drift.evals.wildbench.reward import read_rewards
from drift.evals.wildbench.scores import read_scores
from drift.evals.wildbench.tasks import weighted_mean

REFERENCES = ("gpt4t", "haiku", "llama")


@pytest.fixture(scope="module")
def folder(test_data) -> Path:
    return test_data / "eval" / "wildbench"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_wb_score_of_every_model_with_scores(folder):
    published = read(folder / "leaderboard" / "score.json")
    models = read_scores(sorted((folder / "score").glob("*.jsonl")))
    assert len(models) == 4
    known = [model for model in models if model.name in published]
    assert len(known) == 3
    for model in known:
        row = published[model.name]
        assert model.wb_score == (row["score"] - 5) * 20
        assert model.average_length == row["avg_len"]
        assert len(model.replies) == row["total"]


def test_task_score_of_every_model_from_its_groups(folder):
    for row in read(folder / "leaderboard" / "score.json").values():
        assert weighted_mean(row["task_categorized_scores"]) == pytest.approx(row["task_macro_score"], abs=1e-12)


def test_reward_of_every_model(folder):
    files = [folder / "leaderboard" / f"pairwise-{name}-K=500.json" for name in REFERENCES]
    rewards = read_rewards(files, None)
    published = read(folder / "leaderboard" / "all_stat_wildbench.500.json")
    listed = [name for name in rewards if name in published]
    assert len(listed) > 45
    for name in listed:
        reward, row = rewards[name], published[name]
        assert reward.reward == pytest.approx(row["mixture_of_rewards.K=500"], abs=1e-9)
        assert reward.task_macro_reward == pytest.approx(row["task_macro_reward.K=500"], abs=1e-9)
        for reference in REFERENCES:
            found = reward.by_reference[f"pairwise-{reference}-K=500"]
            assert found == pytest.approx(row[f"{reference}_reward.K=500"], abs=1e-9)
