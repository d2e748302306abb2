"""What comes back is checked: form, turns, evidence, agreement of label and probability."""

import json
import math

import pytest

from drift.endpoint import Candidate, Choice
from drift.feedback.judge.rubric import Regression, load_rubric
from drift.feedback.judge.verdict import (
    TurnVerdict,
    Unreadable,
    checked,
    label_chances,
    read_answer,
    regressed,
    with_chances,
)

RUBRIC = load_rubric()
TEXT = "No, that is wrong."
GOOD = {"turn": 2, "label": "DSAT", "subtype": "wrong", "evidence": "that is wrong", "p_dsat": 0.9, "items": []}


def answer(**changes) -> str:
    return json.dumps({"turns": [{**GOOD, **changes}]})


def judged(text: str) -> TurnVerdict:
    return checked(read_answer(text, [2])[2], TEXT, RUBRIC)


@pytest.mark.parametrize("wrap", ["{}", "```json\n{}\n```", "Here it is: {} I hope it helps."])
def test_a_good_answer_in_any_wrapping(wrap):
    told = judged(wrap.replace("{}", answer(items=[{"id": "D1", "impact": 8}, {"id": "D99", "impact": 3}])))
    assert told == TurnVerdict(2, "DSAT", "wrong", "that is wrong", 0.9, rubric=(("D1", 8),))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SAT", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ("{broken", "no JSON object"),
        ('{"turns": 3}', 'no list "turns"'),
        ('{"turns": []}', "no entry for turn 2"),
        (json.dumps({"turns": [{**GOOD, "turn": 4}]}), "no entry for turn 2"),
        (json.dumps({"turns": [GOOD, {**GOOD, "label": "SAT"}]}), "a turn stands twice"),
        (answer(label="HAPPY"), "wrong label"),
        (answer(label=None), "wrong label"),
        (answer(p_dsat=1.5), "wrong p_dsat"),
        (answer(p_dsat="nan"), "wrong p_dsat"),
        (answer(turn="two"), "wrong turn"),
        (answer(items=[{"id": "D1", "impact": 99}]), "wrong items.0.impact"),
        (answer(items="all"), "wrong items"),
    ],
)
def test_an_answer_in_another_form_is_unreadable(text, told):
    with pytest.raises(Unreadable, match=told):
        read_answer(text, [2])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evidence": "this is wrong"}, "evidence"),  # not what the user wrote
        ({"evidence": "THAT IS WRONG"}, "evidence"),
        ({"evidence": ""}, "evidence"),
        ({"evidence": None}, "evidence"),
        ({"evidence": ","}, "evidence"),
        ({"evidence": "w"}, "evidence"),
        ({"label": "SAT", "evidence": "perfect", "p_dsat": 0.0}, "evidence"),
        ({"label": "SAT"}, "inconsistent"),
        ({"p_dsat": 0.2}, "inconsistent"),
        ({"label": "NEUTRAL"}, "inconsistent"),
    ],
)
def test_a_verdict_without_proof_is_no_verdict(changes, reason):
    told = judged(answer(**changes))
    assert (told.label, told.reason, told.p_dsat, told.evidence) == ("ABSTAIN", reason, None, None)


def test_an_unknown_subtype_is_none_and_a_neutral_turn_needs_no_evidence():
    assert judged(answer(subtype="<script>")).subtype is None
    assert judged(answer(label="NEUTRAL", evidence="anything", p_dsat=0.2)).evidence is None


def tokens(*written: str, **chances: dict[str, float]) -> Choice:
    """`chances`: by the number of the token ("t3"), the probabilities of its candidates."""
    candidates = [
        tuple(Candidate(text, math.log(p)) for text, p in chances.get(f"t{place}", {token: 1.0}).items())
        for place, token in enumerate(written)
    ]
    return Choice("".join(written), "stop", tuple(candidates), written)


def test_probabilities_come_from_where_the_label_was_written():
    choice = tokens(
        '{"turns": [{"evidence": "\\"label\\": \\"SAT\\"", "label": ', '"D', "SAT", '"}, {"label":"', "SAT", '"}]}',
        t1={'"D': 0.6, '"N': 0.25, '"S': 0.1, "x": 0.05},
        t4={"SAT": 0.5, "S": 0.2, "DSAT": 0.3},
    )  # fmt: skip
    first, second = label_chances(choice, [2, 4]) or ({}, {})
    assert first == pytest.approx({"DSAT": 0.6 / 0.95, "SAT": 0.1 / 0.95, "NEUTRAL": 0.25 / 0.95})
    assert second == pytest.approx({"DSAT": 0.3, "SAT": 0.7, "NEUTRAL": 0.0})
    assert label_chances(choice, [2]) is None
    assert label_chances(Choice("x", "stop"), [2]) is None


def test_the_servers_probabilities_replace_the_stated_one_or_speak_against_it():
    told = judged(answer())
    sure = with_chances(told, {"DSAT": 0.7, "SAT": 0.1, "NEUTRAL": 0.2})
    assert (sure.label, sure.p_dsat, sure.p_sat) == ("DSAT", 0.7, 0.1)
    assert with_chances(told, {"DSAT": 0.2, "SAT": 0.1, "NEUTRAL": 0.7}).reason == "inconsistent"


def test_a_fitted_rubric_gives_the_probability_and_the_label_follows():
    rubric = RUBRIC.model_copy(update={"regression": Regression(bias=-1.0, weights={"D1": 3.0}, server=0.5)})
    told = judged(answer(items=[{"id": "D1", "impact": 10}]))
    assert regressed(told, rubric, from_server=False).p_dsat == pytest.approx(1 / (1 + math.exp(-2)))
    with_server = regressed(told, rubric, from_server=True).p_dsat
    assert with_server == pytest.approx(1 / (1 + math.exp(-2 - 0.5 * math.log(9))), abs=1e-6)
    weak = regressed(judged(answer()), rubric, from_server=False)
    assert (weak.label, weak.evidence) == ("NEUTRAL", None)
