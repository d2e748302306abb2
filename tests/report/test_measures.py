"""p_imp is measured where somebody judged, and called assumed where nobody did."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from drift.evaluation.results import Asker, Evaluation, PairResult, PreferenceResult
from drift.records import ChatMessage, PreferencePair, read_jsonl, write_jsonl
from drift.report.measures import FEWEST, Assumption, assumptions, gamed, kinds
from drift.rundir import load_run
from drift.store import ReviewedPreference, Store, shown_pair

MakeRun = Callable[..., Path]


def test_people_come_before_a_scorer_and_the_truth_before_both(make_run: MakeRun):
    run = make_run(config="name: test\nstore: STORE\n")
    (assumed,) = assumptions(load_run(run))
    assert (assumed.source, assumed.p_imp) == ("assumed: these pairs were not judged", None)

    pairs = list(read_jsonl(run / "iteration-1/pairs.jsonl", PreferencePair))
    margins = [2.0, -1.0, 0.0]
    write_jsonl(
        run / "iteration-1/pairs.jsonl",
        [
            {**_plain(pair), "margin": m, "margin_source": "reward_model"}
            for pair, m in zip(pairs, margins, strict=True)
        ],
    )
    (scored,) = assumptions(load_run(run))
    assert (scored.source, scored.p_imp, scored.worse, scored.pairs) == ("scorer reward_model", 1 / 3, 1 / 3, 3)

    (run / "config.yaml").write_text("recipe: {only_wins: true}\n")  # then it prefers every chosen reply
    (own,) = assumptions(load_run(run))
    assert (own.source.split(",")[0], own.p_imp) == (
        "assumed: scorer reward_model kept the pairs that it prefers",
        None,
    )

    store = Store(run.parent / "store")
    store.add([])
    (run / "config.yaml").write_text(f"name: test\nstore: {store.path}\n")
    for pair, winner in zip(pairs, ("chosen", "chosen", None), strict=True):
        store.reviews.add(ReviewedPreference("ann", run.name, pair.pair_id, winner))
    (people,) = assumptions(load_run(run))
    assert (people.source, people.p_imp, people.pairs) == ("people, blind", 1.0, 2)

    redone = [replace(pair, chosen=(ChatMessage("assistant", "made again"),)) for pair in pairs]
    for pair in pairs[:2]:
        store.reviews.add(ReviewedPreference("ann", run.name, pair.pair_id, "chosen", shown_pair(pair)))
    write_jsonl(run / "iteration-1/pairs.jsonl", [pairs[0], *redone[1:]])
    (one,) = assumptions(load_run(run))
    assert (one.source, one.p_imp, one.pairs, one.left_out) == ("people, blind", 1.0, 1, 1)
    write_jsonl(run / "iteration-1/pairs.jsonl", redone)
    (nobody,) = assumptions(load_run(run))
    assert (nobody.source, nobody.p_imp, nobody.left_out) == ("assumed: these pairs were not judged", None, 2)

    (run / "iteration-1/improvement.json").write_text(
        '{"better": 0.8, "worse": 0.1, "equal": 0.1, "gap": 0.3, "pairs": 50}'
    )
    (true,) = assumptions(load_run(run))
    assert (true.source, true.p_imp, true.worse) == ("the world's truth", 0.8, 0.1)


def test_an_iteration_without_pairs_is_not_assumed_to_help(make_run: MakeRun):
    run = make_run()
    (run / "iteration-1/pairs.jsonl").write_text("")
    assert [row.source for row in assumptions(load_run(run))] == ["no pair was made"]


@pytest.mark.parametrize(
    ("scores", "p_imp", "source", "warns"),
    [
        ((0.1, 0.5), (0.6, 0.5), "the world's truth", True),
        ((0.1, 0.5), (0.6, 0.7), "people, blind", False),
        ((0.5, 0.1), (0.6, 0.5), "the world's truth", False),
        ((0.1, 0.5), (0.6, 0.5), "scorer feedback", False),
    ],
)
def test_a_score_that_rises_without_the_truth_is_said(make_run: MakeRun, scores, p_imp, source, warns):
    rows = [
        Assumption(k, source, p, worse=0.0, pairs=9, by_scorer=source.startswith("scorer"), mean_score=score)
        for k, (score, p) in enumerate(zip(scores, p_imp, strict=True), 1)
    ]
    run = load_run(make_run(config="recipe: {scorer: {name: feedback}}\n"))
    warning = gamed(run, rows)
    assert ("rose from 0.100 to 0.500, and p_imp, by the world's truth, did not" in warning) == warns
    retrained = replace(run, stages=(*run.stages, replace(run.stages[-1], name="iteration-2/feedback-reward")))
    assert gamed(retrained, rows) == ""  # the scores of two rewards have two scales
    by_policy = replace(run, config_yaml="recipe: {scorer: {name: hindsight}}")
    assert gamed(by_policy, rows) == ""  # and so have two policies


def test_too_few_held_out_complaints_give_no_interval(make_run: MakeRun):
    right = {f"p{n}": True for n in range(FEWEST)}
    wrong = dict.fromkeys(right, False)
    (kind,) = kinds(load_run(make_run()), (("unnamed", 9),), judged(wrong), judged(right))
    assert (kind.held_out, kind.before, kind.after) == (FEWEST, 0.0, 1.0)
    assert kind.gain is not None
    run = load_run(make_run(name="b"))
    (few,) = kinds(run, (("unnamed", 9),), judged({"p0": False}), judged(right))
    assert (few.held_out, few.gain) == (1, None)
    two_users = {prompt_id: Asker(user=prompt_id if prompt_id == "p0" else "anna", chat="c") for prompt_id in right}
    (alike,) = kinds(run, (("unnamed", 9),), judged(wrong), judged(right).model_copy(update={"askers": two_users}))
    assert (alike.held_out, alike.of_whom, alike.gain) == (FEWEST, " of 2 users", None)


def judged(right: dict[str, bool]) -> Evaluation:
    each = tuple(PairResult(prompt_id=prompt_id, right=value, margin=0.0) for prompt_id, value in right.items())
    preference = PreferenceResult(
        accuracy=0.5, accuracy_low=0.4, accuracy_high=0.6, margin=0.0, logps_chosen=-1.0, pairs=len(each), each=each
    )
    return Evaluation(preference=preference)


def _plain(pair: PreferencePair) -> dict:
    return {name: getattr(pair, name) for name in pair.__dataclass_fields__}
