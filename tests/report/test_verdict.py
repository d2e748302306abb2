"""The verdict says no more than was measured."""

import pytest

from drift.evaluation.results import Asker, Evaluation, PairResult, PreferenceResult, ReplyStatistics, UtilityResult
from drift.report.contents import Contents, Phase
from drift.report.verdict import verdict_of
from drift.rundir import RunState, RunView
from drift.statistics import Share


def contents(tmp_path, *evaluations: Evaluation) -> Contents:
    phases = tuple(
        Phase(name, found, (), None) for name, found in zip(("base", "iteration 1"), evaluations, strict=False)
    )
    run = RunView(tmp_path, "", RunState("done", 1, "2026-01-01T00:00:00.000+00:00"), (), frozenset())
    return Contents(run, None, None, None, None, (), phases, ())


def utility(*scores: float) -> Evaluation:
    mean = sum(scores) / len(scores)
    result = UtilityResult(temperature=1, mean=mean, low=mean, high=mean, prompts=len(scores), scores=scores)
    return Evaluation(utility=(result,))


def preference(*right: bool) -> Evaluation:
    each = tuple(PairResult(prompt_id=f"p{n}", right=value, margin=0.0) for n, value in enumerate(right))
    share = sum(right) / len(right)
    result = PreferenceResult(
        accuracy=share, accuracy_low=share, accuracy_high=share, margin=0, logps_chosen=-1, pairs=len(right), each=each
    )
    return Evaluation(preference=result)


@pytest.mark.parametrize(
    ("before", "after", "tone"),
    [
        ((0.1, 0.9, 0.5, 0.3), (0.2, 1.0, 0.6, 0.5), "better"),  # every request gained: paired, that is clear
        ((0.2, 1.0, 0.6, 0.4), (0.1, 0.9, 0.5, 0.3), "worse"),
        ((0.0, 1.0, 0.0, 1.0), (1.0, 0.0, 0.0, 1.0), "unclear"),
    ],
)
def test_true_utility_decides_by_its_paired_difference(tmp_path, before, after, tone):
    verdict = verdict_of(contents(tmp_path, utility(*before), utility(*after)))
    assert verdict.tone == tone
    assert verdict.measured is not None
    assert verdict.measured.gain is not None
    gain = sum(after) / len(after) - sum(before) / len(before)
    assert verdict.measured.gain.value == pytest.approx(gain)


def test_preference_accuracy_alone_is_no_verdict(tmp_path):
    before, after = (False, False, True, False, True), (True,) * 5
    verdict = verdict_of(contents(tmp_path, preference(*before), preference(*after)))
    assert verdict.tone == "unknown"
    assert "Nobody judged the new replies" in verdict.explanation
    assert verdict.measured is not None
    assert verdict.measured.gain is not None
    assert verdict.measured.gain.value == pytest.approx(3 / 5)


def test_the_difference_counts_users_and_says_how_many(tmp_path):
    """The golden interval of tests/test_statistics.py: ten complaints of one user, and one each of ten others."""
    askers = {f"p{n}": Asker(user="anna" if n < 10 else f"user {n}", chat=f"chat {n}") for n in range(20)}
    before, after = preference(*[False] * 20), preference(*[True] * 10, *[False] * 10)
    after = after.model_copy(update={"askers": askers})
    measured = verdict_of(contents(tmp_path, before, after)).measured
    assert measured is not None
    assert measured.measure == "preference accuracy on 20 held-out complaints of 11 users"
    assert measured.gain == Share(0.5, 0.0, 30 / 38)


def test_too_few_held_out_pairs_are_not_quoted(tmp_path):
    verdict = verdict_of(contents(tmp_path, preference(*[False] * 4), preference(*[True] * 4)))
    assert verdict.measured is None
    assert "only 4 pairs are held out" in verdict.explanation


def test_without_a_held_out_complaint_the_replies_are_what_is_known(tmp_path):
    replies = ReplyStatistics(
        prompts=20, finished=0.9, finished_low=0.8, finished_high=1.0, median_tokens=40, p90_tokens=90, repetition=0.0
    )  # fmt: skip
    both = Evaluation(replies=replies)
    verdict = verdict_of(contents(tmp_path, both, both))
    assert (verdict.tone, verdict.measured) == ("unknown", None)
    assert "Nobody judged the new replies, and no complaint is held out" in verdict.explanation


def test_one_policy_is_nothing_to_compare(tmp_path):
    assert verdict_of(contents(tmp_path, utility(0.5))).measured is None
