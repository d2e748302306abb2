"""WildBench's figures from small files whose numbers can be worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.errors import DataError
from drift.evals.wildbench.elo import Votes, cast_votes, play, rate
from drift.evals.wildbench.reward import JudgedPair, outcome, read_rewards
from drift.evals.wildbench.scores import ModelScores, ScoredReply, read_scores
from drift.evals.wildbench.summarise import summarise_scores
from drift.evals.wildbench.tasks import read_tags, score_tasks


def write(path: Path, value: object) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in value) if isinstance(value, list) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def model(name: str, *replies: tuple[float, int | None]) -> ModelScores:
    rows = tuple(ScoredReply(str(i), score, length, length == 0) for i, (score, length) in enumerate(replies))
    return ModelScores(name, name, "file", rows, 0)


def test_scores_by_hand_in_the_public_shape(tmp_path):
    rows = [
        {"session_id": "a", "model_test": "org/m", "score": "9", "model_output": " good "},
        {"session_id": "b", "model_test": "org/m", "score": 6, "model_output": ""},
        {"session_id": "c", "model_test": "org/m", "score": "3", "model_output": "some text... (truncated)"},
        {"session_id": "d", "model_test": "org/m", "score": "N/A", "model_output": "x"},
    ]
    (scored,) = read_scores([write(tmp_path / "s.jsonl", rows)])
    assert (scored.name, scored.unscored, scored.wb_score, scored.average_length) == ("m", 1, 20, 4)
    tags = read_tags(write(tmp_path / "t.json", {"a": ["Math", "Data Analysis", "Coding & Debugging"], "b": ["Math"]}))
    tasks = score_tasks(scored, tags)  # b is empty, c is cut off and has no tags
    assert tasks.groups == {"Coding & Debugging": 80, "Math & Data Analysis": 80}
    assert tasks.task_score == pytest.approx((1 + 1.25) * 80 / 4.75)
    assert tasks.untagged == 1
    assert len(tasks.missing) == 3


def test_tags_of_the_data_set_count_once_in_each_group(tmp_path):
    rows = [{"id": "a", "primary_tag": "Editing", "secondary_tags": ["Role playing", "planning"]}]
    tags = read_tags(write(tmp_path / "t.jsonl", rows))
    assert tags == {"a": {"Creative Tasks", "Planning & Reasoning"}}
    with pytest.raises(DataError, match="unknown WildBench tag 'Cooking'"):
        read_tags(write(tmp_path / "u.json", {"a": ["Cooking"]}))


@pytest.mark.parametrize(
    ("winner", "extent", "margin", "expected"),
    [
        ("m", 2, 500, "win_much"),  # much better stays so, however long
        ("m", 1, 500, "tie"),  # 501 characters longer
        ("m", 1, 501, "win"),
        ("m", 1, -1, "win"),
        ("r", 1, 500, "lose"),  # the winner is the shorter one
        ("r", 2, 500, "lose_much"),
        ("tie", 0, 500, "tie"),
        ("N/A", 1, 500, None),
    ],
)
def test_the_length_margin(winner, extent, margin, expected):
    row = JudgedPair(winner=winner, extent=extent, model_outputs={"m": "x" * 601, "r": "x" * 100})
    assert outcome(row, "m", margin) == expected


def test_rewards_by_hand(tmp_path):
    counts = {"m": {"win_much": 2, "win": 1, "tie": 3, "lose": 3, "lose_much": 0, "total": 10}}
    one, two = write(tmp_path / "one.json", counts), write(tmp_path / "two.json", {"other": {"lose": 4}})
    rewards = read_rewards([one, two], None)
    (tmp_path / "other").mkdir()
    like_one = write(tmp_path / "other" / one.name, json.loads(one.read_text()))
    with pytest.raises(DataError, match=rf"other/{one.name}: .*{one.name} has the name {one.stem} too\. Rename one"):
        read_rewards([one, two, like_one], None)
    assert rewards["m"].by_reference == {"one": 10, "two": 0}
    assert rewards["m"].reward == 5
    assert rewards["other"].reward == -25
    assert rewards["m"].task_macro_reward is None


def test_single_judgements_are_counted(tmp_path):
    rows = [{"winner": w, "extent": 2, "model_outputs": {"org/m": "a", "org/r": "b"}} for w in ("org/m", "tie", "?")]
    path = write(tmp_path / "judged.jsonl", rows)
    assert read_rewards([path], "r")["m"].reward == pytest.approx(100 / 3)  # unread: nothing gained, but counted
    with pytest.raises(DataError, match="--reference-model"):
        read_rewards([path], None)


def test_a_model_that_is_spelled_with_and_without_its_owner_keeps_all_of_its_rows(tmp_path):
    rows = [{"winner": w, "extent": 2, "model_outputs": {w: "a", "r": "b"}} for w in ("org/m", "m")]
    lost = {"winner": "r", "extent": 2, "model_outputs": {"m": "a", "r": "b"}}
    path = write(tmp_path / "judged.jsonl", [*rows, lost, lost])
    assert read_rewards([path], "r")["m"].reward == pytest.approx(0)


def test_votes_and_elo_by_hand():
    a = model("a", (9, 100), (5, 100), (9, 2000), (9, 0))
    b = model("b", (7, 100), (6, 100), (2, 100), (1, 10))
    votes = cast_votes([a, b])  # 2 points win, 1 point ties, 1900 characters tie, empty: no vote
    assert votes.result.tolist() == [1.0, 0.5, 0.5]
    single = Votes(np.array([0]), np.array([1]), np.array([1.0]))
    assert play(single, 2)[0].tolist() == [1002, 998]  # 4 * (1 - 1/2)
    elo = rate([a, b])
    assert elo["a"].mean + elo["b"].mean == pytest.approx(2000)
    assert elo["a"].low <= elo["a"].mean <= elo["a"].high


def test_elo_of_unequal_ratings_by_hand():
    """The second win counts less: 4 * (1 - 1 / (1 + 10 ** (-4 / 400)))."""
    twice = Votes(np.array([0, 0]), np.array([1, 1]), np.array([1.0, 1.0]))
    ratings = play(twice, 2)
    assert ratings.shape == (128, 2)
    assert ratings[0].tolist() == pytest.approx([1003.9769755, 996.0230245], abs=1e-6)


def test_a_length_that_is_not_known_makes_no_vote_a_tie(tmp_path):
    """It is no length of 0, from which every long reply differs by more than the margin."""
    assert cast_votes([model("a", (9, 2000)), model("b", (2, None))]).result.tolist() == [1]
    assert cast_votes([model("a", (2, None)), model("b", (9, 2000))]).result.tolist() == [0]
    tasks = [{"session_id": str(i), "score": 9, "model_output": "x" * 2000} for i in range(3)]
    a = write(tmp_path / "a.jsonl", tasks)
    b = write(tmp_path / "b.jsonl", [{"session_id": str(i), "score": 2} for i in range(3)])
    results = summarise_scores([a, b], None, []).results
    assert (results["a"].elo or 0) > 1000 > (results["b"].elo or 0)
    for result in results.values():
        assert "Elo: no vote on 3 replies of b is a tie by length: the file has no lengths of them" in (
            result.not_comparable
        )
    assert not any("by length" in reason for reason in summarise_scores([b], None, []).results["b"].not_comparable)


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_elo_knows_no_first_place(scores):
    a, b = (model(name, *[(s[i], 100) for s in scores]) for i, name in enumerate("ab"))
    one, other = rate([a, b]), rate([b, a])
    assert one["a"].mean == pytest.approx(other["a"].mean, abs=1e-9)


def test_bad_input(tmp_path):
    with pytest.raises(DataError, match=r"s\.jsonl:1: session_id: Field required"):
        read_scores([write(tmp_path / "s.jsonl", [{"score": 1}])])
    rows = [{"session_id": "a", "model": "m", "score": 4}]
    one, two = write(tmp_path / "1.jsonl", rows), write(tmp_path / "2.jsonl", rows)
    with pytest.raises(DataError, match=r"is in .* too"):
        read_scores([one, two])
    with pytest.raises(DataError, match="none of the session_ids of m"):
        summarise_scores([one], write(tmp_path / "t.json", {"z": ["Math"]}), [])
    with pytest.raises(DataError, match="all counts are 0"):
        read_rewards([write(tmp_path / "c.json", {"m": {"win": 0}})], None)
