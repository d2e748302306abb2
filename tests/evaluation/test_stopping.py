from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from drift.config import PolicySettings, StopSettings
from drift.evaluation.results import (
    Asker,
    Evaluation,
    PairResult,
    PreferenceResult,
    ReplyMeasure,
    ReplyStatistics,
    read_evaluation,
    write_result,
)
from drift.evaluation.stopping import (
    WATCHED,
    Watched,
    WatchRule,
    best_step,
    first_problem_of_replies,
    keep_best,
    should_stop,
    step_kept,
    stops_at,
    watch,
)

SIX = np.linspace(-0.05, 0.05, 6)
"""Six replies that differ; the standard error of a fall that is the same for all of them is zero."""


def evaluations(folder: Path, steps: Sequence[Sequence[float]]) -> list[Path]:
    """`steps`: of each evaluation, the likelihood of every watched reply."""
    paths = [folder / f"{i}.json" for i in range(len(steps))]
    for path, step in zip(paths, steps, strict=True):
        each = tuple(PairResult(prompt_id=f"p{n}", right=True, margin=0, likelihood=x) for n, x in enumerate(step))
        stop = PreferenceResult(
            accuracy=1, accuracy_low=1, accuracy_high=1, margin=0, logps_chosen=-1, pairs=len(each), each=each
        )
        write_result(path, Evaluation(stop=stop))
    return paths


def around(*means: float) -> list[list[float]]:
    return [[round(mean + x, 4) for x in SIX] for mean in means]


def finished(share: float, count: int = 20) -> ReplyStatistics:
    """So many of the replies end within the token limit."""
    each = tuple(ReplyMeasure(prompt=i, finished=i < share * count, tokens=50, repetition=0.0) for i in range(count))
    return ReplyStatistics(
        prompts=count, finished=share, finished_low=share, finished_high=share, median_tokens=50, p90_tokens=50,
        repetition=0.0, each=each,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("means", "patience", "stops"),
    [
        ([0.5], 1, False),
        ([0.5, 0.6], 1, False),
        ([0.5, 0.6, 0.55], 1, True),
        ([0.5, 0.6, 0.55], 2, False),
        ([0.6, 0.55, 0.5], 2, True),
        ([0.6, 0.55, 0.65], 2, False),
    ],
)
def test_it_stops_after_so_many_falls_in_a_row(tmp_path, means, patience, stops):
    paths = evaluations(tmp_path, around(*means))
    assert should_stop(paths, StopSettings(rule="heldout_logps", patience=patience)).stops is stops
    assert not should_stop(paths, StopSettings(rule="none")).stops


def test_a_fall_within_its_standard_error_is_none():
    """Five replies of which two fall by 0.1 and two rise by 0.05: mean fall .02, standard error .03 (by hand)."""
    before = np.full(5, 0.5)
    wavers = before - np.array([0.1, 0.1, -0.05, -0.05, 0.0])
    falls = before - np.array([0.1, 0.1, 0.05, 0.05, 0.0])  # mean .06, standard error .0187
    assert stops_at(Watched(np.stack([before, wavers])), 1) is None
    assert stops_at(Watched(np.stack([before, falls])), 1) == 1


def test_the_replies_of_one_user_are_no_more_evidence_than_one():
    """Ten of one user's fall by 0.1, one each of ten users stays: mean fall .05, standard error .0115 over replies and
    .0275 over users (tests/test_statistics.py, times 0.1). If those of the ten rise by .04: .03, .0161 and .0385."""
    units = ["anna"] * 10 + [f"user {n}" for n in range(10)]
    before = np.full(20, 0.5)
    stay, rise = (before - np.array([0.1] * 10 + [other] * 10) for other in (0.0, -0.04))
    assert stops_at(Watched(np.stack([before, stay]), units), 1) == 1
    assert stops_at(Watched(np.stack([before, rise])), 1) == 1
    assert stops_at(Watched(np.stack([before, rise]), units), 1) is None


def test_the_units_of_watched_replies_are_read_from_the_file(tmp_path):
    paths = evaluations(tmp_path, around(0.5, 0.6))
    askers = {f"p{n}": Asker(user=f"user {n // 2}", chat=f"chat {n}") for n in range(6)}
    write_result(paths[-1], read_evaluation(paths[-1]).model_copy(update={"askers": askers}))
    found = watch(paths, StopSettings())
    assert found is not None
    assert found.units == [f"user {n // 2}" for n in range(6)]


def test_a_slow_fall_is_measured_from_the_best():
    """Each step is down by less than its noise; from the best, the falls add up."""
    noise = np.array([0.03, -0.03, 0.03, -0.03, 0.0])
    steps = np.stack([0.6 - 0.01 * k + (noise if k % 2 else -noise) for k in range(6)])
    assert stops_at(Watched(steps[:2]), 1) is None
    assert stops_at(Watched(steps), 1) == 2
    assert best_step(steps) == 0


def test_a_wrong_reply_that_is_unlearned_does_not_stop_a_run():
    """Its log-prob may fall without end (here from -3 to -12 nats a token); its likelihood was near zero before."""
    others = np.array([0.60, 0.62, 0.64, 0.66, 0.68])
    steps = np.stack([[*(others + 0.01 * k), np.exp(-3.0 - 3 * k)] for k in range(4)])
    assert (np.diff(np.log(steps).mean(axis=1)) < 0).all()
    assert stops_at(Watched(steps), 1) is None


@pytest.mark.parametrize(
    ("means", "cut_after", "kept"),
    [
        ([0.5, 0.6, 0.55, 0.7], None, 1),  # ends after 2
        ([0.5, 0.6, 0.55, 0.7], 1, 0),  # replies stop finishing before that
        ([0.5, 0.6, 0.55, 0.7], 2, 1),
        ([0.5, 0.6, 0.55, 0.7], 3, 1),  # the likelihoods have ended it already
        ([0.5, 0.6, 0.65, 0.7], 3, 2),
        ([0.5, 0.6, 0.65, 0.7], None, 3),
    ],
)
def test_a_run_without_the_rule_shows_which_step_the_rule_would_have_kept(tmp_path, means, cut_after, kept):
    """As the run that it ends: after each iteration it is asked, and what it keeps is copied."""
    paths = evaluations(tmp_path, around(*means))
    for step, path in enumerate(paths):
        replies = finished(0.3 if cut_after is not None and step >= cut_after else 0.9)
        write_result(path, read_evaluation(path).model_copy(update={"replies": replies}))
    rule = StopSettings(patience=1)
    assert step_kept(first_problem_of_replies(paths)[0], watch(paths, rule), patience=1) == kept
    ran = next(k for k in range(1, len(paths)) if k == len(paths) - 1 or should_stop(paths[: k + 1], rule).stops)
    policies = tuple(tmp_path / f"policy-{k}" for k in range(ran + 1))
    for policy in policies:
        policy.mkdir()
    counts = keep_best(tmp_path / "kept", policies, tuple(paths[: ran + 1]), rule, PolicySettings())
    assert counts == {"iteration": kept}


def test_without_figures_nobody_can_say_which_step_the_rule_would_have_kept():
    assert step_kept(None, None, patience=1) is None
    assert step_kept(3, None, patience=1) == 2


def test_the_same_replies_are_compared(tmp_path):
    paths = evaluations(tmp_path, [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.2, 0.3, 0.4, 0.5, 0.6]])
    found = watch(paths, StopSettings())
    assert found is not None
    assert found.likelihoods.shape == (2, 5)
    assert (found.likelihoods[1] - found.likelihoods[0]).tolist() == pytest.approx([0.1] * 5)


def test_too_little_to_watch_is_said(tmp_path):
    write_result(tmp_path / "a", Evaluation())
    paths = evaluations(tmp_path, [[0.5] * 4, [0.4] * 4])
    for few in ([tmp_path / "a", tmp_path / "a"], paths):
        verdict = should_stop(few, StopSettings())
        assert not verdict.stops
        assert "fewer than 5 disliked replies" in verdict.why


def test_why_it_stopped_is_one_line(tmp_path):
    verdict = should_stop(evaluations(tmp_path, around(0.5, 0.6, 0.55)), StopSettings())
    assert verdict.why.startswith("stopped after iteration 2: held-out guided replies (6)")
    assert "0.500 at the warm start, at best 0.600 after iteration 1, now 0.550" in verdict.why
    assert verdict.why.endswith("iteration 1 is kept.")
    assert "\n" not in verdict.why


def test_the_best_policy_is_kept_under_a_rule_and_the_last_without_one(tmp_path):
    paths = evaluations(tmp_path, around(0.5, 0.7, 0.6))
    policies = tuple(tmp_path / f"policy-{i}" for i in range(3))
    for i, policy in enumerate(policies):
        policy.mkdir()
        (policy / "name").write_text(str(i))
    for rule, best in (("heldout_logps", "1"), ("none", "2")):
        out = tmp_path / rule
        keep_best(out, policies, tuple(paths), StopSettings(rule=rule), PolicySettings())
        assert (out / "name").read_text() == best


def liked_evaluations(folder: Path, steps: Sequence[Sequence[float]], guided: Sequence[float]) -> list[Path]:
    """Evaluations with these likelihoods of liked replies by step; those of six guided replies are around `guided`."""
    paths = evaluations(folder, around(*guided))
    for path, step in zip(paths, steps, strict=True):
        each = {f"liked-{n}": likelihood for n, likelihood in enumerate(step)}
        write_result(path, read_evaluation(path).model_copy(update={"liked": each}))
    return paths


def test_a_run_can_watch_what_users_liked_instead(tmp_path):
    """Guided replies fall and liked ones rise: each rule decides by its own."""
    twenty = np.linspace(-0.1, 0.1, 20)
    steps = [(mean + twenty).tolist() for mean in (0.5, 0.55, 0.6)]
    paths = liked_evaluations(tmp_path, steps, guided=(0.6, 0.6, 0.5))
    guided, liked = (should_stop(paths, StopSettings(rule=rule)) for rule in ("heldout_logps", "heldout_liked"))
    assert guided.stops
    assert guided.why.endswith(
        "at the warm start, now 0.500, a fall larger than its standard error; the warm start is kept."
    )
    assert not liked.stops
    assert liked.why == (
        "ran 2 iterations: held-out liked replies (20) have a likelihood per token of 0.500 at the warm start, at best "
        "0.600 after iteration 2; iteration 2 is kept."
    )
    falling = [(tmp_path / "0.json"), (tmp_path / "2.json"), (tmp_path / "1.json")]
    assert should_stop(falling, StopSettings(rule="heldout_liked")).stops


def test_nineteen_liked_replies_are_too_few(tmp_path):
    paths = liked_evaluations(tmp_path, [[0.5] * 19, [0.4] * 19], guided=(0.5, 0.4))
    verdict = should_stop(paths, StopSettings(rule="heldout_liked"))
    assert not verdict.stops
    assert "the held-out conversations have fewer than 20 liked replies" in verdict.why
    assert verdict.why.endswith("the last policy is kept.")


def test_a_rule_that_watches_likelihoods_is_one_entry(tmp_path, monkeypatch):
    """With its name in the config; nothing else compares names of rules."""
    assert set(get_args(StopSettings.model_fields["rule"].annotation)) == {"none", "gate", *WATCHED}
    monkeypatch.setitem(WATCHED, "longest", WatchRule(lambda _: {"a": 0.5}, "long replies", 2, "this run has", "long"))
    settings = StopSettings().model_copy(update={"rule": "longest"})
    verdict = should_stop(evaluations(tmp_path, around(0.5, 0.4)), settings)
    assert verdict.why == (
        "ran 1 iteration: this run has fewer than 2 long replies, too few for the stop rule; the last policy is kept."
    )
