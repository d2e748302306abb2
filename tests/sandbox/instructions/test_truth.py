"""The parts of the truth, by hand; and what a Scorer needs."""

from pathlib import Path

import pytest
import yaml

from drift.records import ChatMessage
from drift.sandbox.instructions.assignment import Assignment
from drift.sandbox.instructions.book import shows
from drift.sandbox.instructions.constraints import Constraint
from drift.sandbox.instructions.truth import InstructionOracle, KindTruth, judge, summarize

ROWS = yaml.safe_load((Path(__file__).parent / "truth.yaml").read_text(encoding="utf-8"))
ASKED = "Explain sailing to a child. Do not use the word very."
SAILING = Assignment("sailing", (Constraint("avoid_word", ("very",)),), ASKED)
THREE = 'Explain sailing to a child. Use exactly three sentences. End with "The end."'


@pytest.mark.parametrize("row", ROWS, ids=[row[3] for row in ROWS])
def test_on_topic_and_degenerate_by_hand(row):
    on_topic, degenerate, reply, _ = row
    truth = judge(SAILING, reply)
    assert (truth.on_topic, truth.degenerate) == (on_topic, degenerate)
    assert truth.right == (on_topic and not degenerate)


@pytest.mark.parametrize(
    ("word", "sign", "same"),
    [
        ("sails", "sail", True),
        ("sailing", "sail", True),
        ("sailor", "sail", True),
        ("sailcloths", "sail", False),
        ("assail", "sail", False),
        ("baking", "bake", True),
        ("baker", "bake", True),
        ("basking", "bake", False),
        ("celebration", "celebrate", True),
        ("berries", "berry", True),
        ("allergic", "allergy", True),
        ("cars", "car", True),
        ("careful", "car", False),
        ("carpet", "car", False),
    ],
)
def test_forms_of_a_word_by_hand(word, sign, same):
    assert shows(word, sign) == same


def test_the_score_is_one_only_if_every_part_is_as_it_should_be():
    prompt = [ChatMessage("user", THREE)]
    oracle = InstructionOracle()
    right = "The wind pushes the boat. You hold the rope of the sail. The end."
    assert oracle.score(prompt, right) == 1.0
    assert oracle.score(prompt, right, "length") == 0.0
    truth = oracle.verdict(prompt, "The wind pushes the boat. You hold the rope of the sail.", "length")
    assert truth.holds == (("sentences", False), ("end_with", False))
    assert (truth.score, truth.right, truth.finished, truth.on_topic, truth.degenerate) == (
        0.0,
        False,
        False,
        True,
        False,
    )
    assert truth.share == pytest.approx(2 / 5)
    assert truth.failed == ("sentences", "end_with", "unfinished")


def test_a_complaint_changes_nothing_and_a_follow_up_is_judged_against_the_reply_before_it():
    prompt = [
        ChatMessage("user", THREE),
        ChatMessage("assistant", "Sails and boats."),
        ChatMessage("user", "that's not three sentences"),
    ]
    oracle = InstructionOracle()
    assert oracle.score(prompt, "The wind pushes the boat. You hold the rope of the sail. The end.") == 1.0
    told = "The wind pushes the boat over the lake and you hold the rope of the sail. " * 2
    prompt = [ChatMessage("user", ASKED), ChatMessage("assistant", told), ChatMessage("user", "Now shorter, please.")]
    assert oracle.score(prompt, "The wind pushes the boat.") == 1.0
    assert oracle.verdict(prompt, told.strip()).failed == ("shorter",)


def test_what_is_no_request_of_this_world_is_refused():
    with pytest.raises(ValueError, match="not a request of the instructions world: 'hello'"):
        InstructionOracle().score([ChatMessage("user", "hello")], "hi")


def test_the_summary_by_kind_and_part():
    oracle, prompt = InstructionOracle(), [ChatMessage("user", THREE)]
    replies = ["The wind pushes the boat. You hold the sail. The end.", "Boats sail. The end.", "Hello. What? Why not?"]
    summary = summarize([oracle.verdict(prompt, reply) for reply in replies])
    assert (summary.replies, summary.right, summary.holds) == (3, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (summary.finished, summary.on_topic, summary.degenerate) == (1.0, pytest.approx(2 / 3), 0.0)
    assert summary.kinds == {
        "end_with": KindTruth(pytest.approx(2 / 3), pytest.approx(1 / 3), 3),
        "sentences": KindTruth(pytest.approx(2 / 3), pytest.approx(1 / 3), 3),
    }
    with pytest.raises(ValueError, match="no verdicts"):
        summarize([])
