from pathlib import Path

import pytest

from drift.config import PolicySettings, StopSettings
from drift.evaluation.results import Evaluation, PreferenceResult, write_evaluation
from drift.evaluation.stopping import keep_best, should_stop


def evaluations(folder: Path, scores: list[float]) -> list[Path]:
    paths = [folder / f"{i}.json" for i in range(len(scores))]
    for path, score in zip(paths, scores, strict=True):
        stop = PreferenceResult(
            accuracy=1.0, accuracy_low=1.0, accuracy_high=1.0, margin=0.0, logps_chosen=score, pairs=3
        )
        write_evaluation(path, Evaluation(stop=stop))
    return paths


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    [
        ([-7], 1, False),
        ([-9, -8], 1, False),
        ([-9, -8, -8.5], 1, True),
        ([-9, -8, -8.5], 2, False),
        ([-7, -8, -8.5], 2, True),
    ],
)
def test_it_stops_after_so_many_falls_in_a_row(tmp_path, scores, patience, stops):
    paths = evaluations(tmp_path, scores)
    assert should_stop(paths, StopSettings(rule="heldout_logps", patience=patience)).stops is stops
    assert not should_stop(paths, StopSettings(rule="none")).stops


def test_nothing_to_watch_is_said(tmp_path):
    for name in ("a", "b"):
        write_evaluation(tmp_path / name, Evaluation())
    verdict = should_stop([tmp_path / "a", tmp_path / "b"], StopSettings())
    assert not verdict.stops
    assert "holds no disliked reply" in verdict.why


def test_why_it_stopped_is_one_line(tmp_path):
    verdict = should_stop(evaluations(tmp_path, [-9, -8, -8.5]), StopSettings())
    assert verdict.why.startswith("stopped after iteration 2")
    assert verdict.why.endswith("iteration 1 is kept.")
    assert "\n" not in verdict.why


def test_the_best_policy_is_kept_under_a_rule_and_the_last_without_one(tmp_path):
    paths = evaluations(tmp_path, [-9, -7, -8])
    policies = tuple(tmp_path / f"policy-{i}" for i in range(3))
    for i, policy in enumerate(policies):
        policy.mkdir()
        (policy / "name").write_text(str(i))
    for rule, best in (("heldout_logps", "1"), ("none", "2")):
        out = tmp_path / rule
        keep_best(out, policies, tuple(paths), StopSettings(rule=rule), PolicySettings())
        assert (out / "name").read_text() == best
