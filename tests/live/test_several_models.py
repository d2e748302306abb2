"""Which of several models `drift live` compares, what their comparisons may err together, and which one alerts."""

import pytest

from drift.errors import ConfigError
from drift.live.readout import read_live
from live_stores import Deployment, days

WEEK = days(1, 7)


def test_models_are_compared_with_the_one_before(deployment: Deployment):
    for model, first in (("one", 1), ("two", 3), ("three", 5)):
        deployment.days(model, days(first, first + 2), 20, 5)
    store = deployment.store()
    assert [(c.against, c.model) for c in read_live(store).comparisons] == [("one", "two"), ("two", "three")]
    assert [(c.against, c.model) for c in read_live(store, against="one").comparisons] == [
        ("one", "two"),
        ("one", "three"),
    ]
    with pytest.raises(ConfigError, match=r"--against four: no such model .* there are: one, two, three"):
        read_live(store, against="four")


@pytest.mark.parametrize("period", [WEEK, [None]])
def test_of_several_arms_each_is_compared_with_each_or_all_with_the_control(deployment: Deployment, period):
    """By name, the control comes last: no pair of neighbours holds it and the first candidate."""
    for day in period:
        for name, dsat in (("cand-1", 30), ("cand-2", 15), ("control", 15)):
            for number in range(1050 // len(period)):
                deployment.chat(name, day, ["DSAT" if number % 100 < dsat else "NEUTRAL"])
    store = deployment.store()
    readout = read_live(store)
    assert [(c.against, c.model, c.verdict) for c in readout.comparisons] == [
        ("cand-1", "cand-2", "better"),
        ("cand-1", "control", "better"),
        ("cand-2", "control", "unclear"),
    ]
    assert [c.confidence for c in readout.comparisons] == pytest.approx([1 - 0.05 / 3] * 3)
    begun = "that began on 2026-03-01" if period == WEEK else "without a time"
    assert f"3 comparisons of models {begun}: the interval of each is one of 98.33 %, so " in readout.notes[-2]
    assert "--against MODEL" in readout.notes[-1]
    measured = read_live(store, against="control")
    assert [(c.against, c.model, c.verdict) for c in measured.comparisons] == [
        ("control", "cand-1", "worse"),
        ("control", "cand-2", "unclear"),
    ]
    assert f"2 comparisons of models {begun}: the interval of each is one of 97.50 %" in measured.notes[-1]


def test_more_candidates_are_more_chances_of_an_error(deployment: Deployment):
    """8 points alone are clear; beside three other candidates they may be the largest of four chances."""
    deployment.days("control", WEEK, 100, 12)
    deployment.days("new", WEEK, 100, 20)
    alone = read_live(deployment.store(), against="control")
    for number in range(3):
        deployment.days(f"other-{number}", WEEK, 100, 12)
    deployment.path = deployment.path.with_name("more")
    among = read_live(deployment.store(), against="control")
    assert (alone.comparisons[0].verdict, alone.is_worse, alone.comparisons[0].confidence) == ("worse", True, 0.95)
    assert (among.comparisons[0].verdict, among.is_worse, among.comparisons[0].confidence) == ("unclear", False, 0.9875)
    assert among.comparisons[0].difference.value == alone.comparisons[0].difference.value


def test_a_model_that_comes_later_makes_no_interval_wider(deployment: Deployment):
    """One candidate a week beside the old model: each is a test of its own."""
    deployment.days("old", days(1, 21), 20, 4)
    deployment.days("week-1", days(2, 7), 20, 5)
    before = read_live(deployment.store())
    for first in (8, 15):
        deployment.days(f"week-{first}", days(first, first + 6), 20, 5)
        deployment.chat(f"week-{first}", None, ["NEUTRAL"])  # a reply without a time says nothing of when it began
    deployment.path = deployment.path.with_name("more")
    after = read_live(deployment.store())
    assert [(c.against, c.model, c.confidence) for c in after.comparisons] == [
        ("old", "week-1", 0.95),
        ("old", "week-8", 0.95),
        ("old", "week-15", 0.95),
    ]
    assert after.comparisons[0] == before.comparisons[0]
    assert not any("comparisons of models" in note or "--against MODEL" in note for note in after.notes)


def test_only_a_model_that_did_not_begin_earlier_alerts(deployment: Deployment):
    """Compared with the newest one, the old model is worse: that is why it was replaced."""
    deployment.days("old", WEEK, 150, 60)
    deployment.days("new", WEEK[1:], 150, 15)
    store = deployment.store()
    readout = read_live(store, against="new")
    assert [(c.model, c.verdict) for c in readout.comparisons] == [("old", "worse")]
    assert not readout.is_worse


def test_a_model_without_a_judged_reply_is_named_as_compared_with_none(deployment: Deployment):
    deployment.days("a", WEEK, 20, 5)
    deployment.days("b", WEEK, 20, 5)
    deployment.chat("silent", "2026-03-03", ["ABSTAIN"])
    store = deployment.store()
    against = read_live(store, against="silent")
    assert against.comparisons == ()
    assert "--against silent: silent has no judged reply (of 1), so nothing is compared with it." in against.notes
    usual = read_live(store)
    assert [(c.against, c.model) for c in usual.comparisons] == [("a", "b")]
    assert "silent has no judged reply (of 1), so it is not compared." in usual.notes
