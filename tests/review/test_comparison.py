"""Blind comparison of disliked and fresh replies."""

from dataclasses import replace

import pytest

from drift.errors import DataError
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.review.comparison import BlindComparison, fresh_is_left
from drift.store import ReviewedPreference, Reviews


@pytest.fixture
def comparison(tmp_path) -> BlindComparison:
    run = tmp_path / "run"
    said = {name: (ChatMessage("assistant", name),) for name in ("fresh", "disliked")}
    ask = (ChatMessage("user", "hi"),)
    for k in (2, 10):
        (run / f"iteration-{k}").mkdir(parents=True)
        pairs = [
            PreferencePair(f"p{n}-{k}", f"p{n}", "c", 1, "drift", k, "x", ask, said["fresh"], said["disliked"])
            for n in range(8)
        ]
        write_jsonl(run / f"iteration-{k}" / "pairs.jsonl", pairs)
    return BlindComparison(run, Reviews(tmp_path), "ann")


def test_the_sides_hide_which_one_is_fresh_and_the_answer_is_kept_in_its_terms(comparison):
    assert {pair.iteration for pair in comparison.pairs} == {10}  # 10 comes after 2
    assert {fresh_is_left(pair) for pair in comparison.pairs} == {True, False}
    for n in range(6):
        pair = comparison.current()
        fresh, other = ("left", "right") if fresh_is_left(pair) else ("right", "left")
        comparison.decide(pair, fresh if n < 3 else other if n == 3 else "tie" if n == 4 else None)
    so_far = comparison.improvement()
    assert (so_far.decided, so_far.total) == (6, 8)
    assert so_far.p_imp.value == 3.5 / 5
    comparison.undo()
    comparison.undo()
    assert comparison.improvement().p_imp.value == 3 / 4


def test_nobody_sees_the_decisions_of_others_or_of_other_runs(comparison, tmp_path):
    Reviews(tmp_path).add(ReviewedPreference("bob", "run", comparison.pairs[0].pair_id, "chosen"))
    Reviews(tmp_path).add(ReviewedPreference("ann", "another", comparison.pairs[0].pair_id, "chosen"))
    assert comparison.improvement().p_imp is None


def test_decisions_on_other_texts_under_the_same_ids_do_not_count(comparison, tmp_path):
    for side in ("left", "right", "tie"):
        comparison.decide(comparison.current(), side)
    file = tmp_path / "run/iteration-10/pairs.jsonl"
    again = [replace(pair, chosen=(ChatMessage("assistant", "fresher"),)) for pair in comparison.pairs]
    write_jsonl(file, [again[0], comparison.pairs[1], *again[2:]])  # one of the three is the same as before
    redone = BlindComparison(tmp_path / "run", Reviews(tmp_path), "ann")
    so_far = redone.improvement()
    assert (so_far.decided, so_far.total, so_far.others) == (1, 8, 2)
    assert [preference.pair_id for preference in redone.decisions()] == [redone.pairs[1].pair_id]
    assert redone.current() == redone.pairs[0]
    redone.decide(redone.pairs[0], "tie")
    assert redone.improvement().p_imp.value in (0.25, 0.75)  # one decided side and a tie

    assert (redone.undo().winner, redone.undo().pair_id, redone.undo()) == ("tie", redone.pairs[1].pair_id, None)
    assert comparison.improvement().decided == 2  # those of the run as it was are still there


def test_a_run_without_pairs_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no pairs of an iteration"):
        BlindComparison(tmp_path, Reviews(tmp_path), "ann")


def test_replies_without_a_partner_cannot_be_compared(comparison, tmp_path):
    file = tmp_path / "run/iteration-10/pairs.jsonl"
    write_jsonl(file, [replace(pair, chosen=()) for pair in comparison.pairs[:2]])
    with pytest.raises(DataError, match=r"iteration-10/pairs\.jsonl: no two replies to compare; .*audits the labels"):
        BlindComparison(tmp_path / "run", Reviews(tmp_path), "ann")
    write_jsonl(file, [replace(comparison.pairs[0], chosen=()), comparison.pairs[1]])
    assert len(BlindComparison(tmp_path / "run", Reviews(tmp_path), "ann").pairs) == 1
