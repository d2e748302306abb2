"""The target: who wins on held-out complaints, by a judge, a reward model or the truth; by hand."""

import pytest

from drift.errors import ConfigError
from drift.evals.replies import EvalRequest
from drift.gate.target import (
    HeldOutRequest,
    Outcome,
    complaints_of_truth,
    judged_outcomes,
    target_result,
    true_outcomes,
)
from drift.records import ChatMessage, Completion, Truth
from drift.scoring.judges import PairPreference, ReplyPair


def answers(**texts: str) -> dict[str, Completion]:
    return {name: Completion(name, 0, 0, False, text, "stop", 0, "p", "t") for name, text in texts.items()}


def complaint(name: str) -> HeldOutRequest:
    return HeldOutRequest(EvalRequest(name, (ChatMessage("user", f"request {name}"),)), f"chat of {name}")


class ShorterIsBetter:
    """A real judge of a simple kind; it cannot read an answer with a question mark."""

    name = "shorter"

    def estimate(self, pairs):
        return None

    def decide(self, pairs: list[ReplyPair]) -> list[PairPreference]:
        assert all(pair.first != pair.second for pair in pairs), "equal answers are not judged"
        return [
            PairPreference(None, "odd")
            if "?" in pair.second
            else PairPreference(float(len(pair.second) < len(pair.first)))
            for pair in pairs
        ]


def test_judged_outcomes_and_what_is_skipped():
    items = [complaint(name) for name in "abcde"]
    old = answers(a="long answer", b="short", c="same", d="x", e="x")
    new = answers(a="short", b="long answer", c="same", d="what?")
    outcomes, skipped = judged_outcomes(items, old, new, ShorterIsBetter())
    assert {o.request.item_id: (o.old, o.new) for o in outcomes} == {"a": (0, 1), "b": (1, 0), "c": (0.5, 0.5)}
    assert skipped == {"no answer": 1, "unscored: odd": 1}


def test_the_gain_is_the_win_rate_minus_one_half():
    """30 wins, 10 losses: a win rate of .75."""
    outcomes = [Outcome(complaint(str(n)).request, str(n), float(n < 10), float(n >= 10)) for n in range(40)]
    sides = answers(**{str(n): "old" for n in range(40)}), answers(**{str(n): "new" for n in range(40)})
    result = target_result("judge", outcomes, {}, sides, 1, 5)
    assert (result.change, result.old, result.new, result.kind) == (0.25, 0.25, 0.75, "target")
    assert result.verdict == "pass"
    assert [(item.old, item.new) for item in result.lost] == [("old", "new")] * 3


def test_two_of_one_conversation_are_not_enough():
    outcomes = [Outcome(complaint(name).request, "one chat", 0.0, 1.0) for name in "ab"]
    with pytest.raises(ConfigError, match=r"only 2 held-out requests could be compared.*--target none"):
        target_result("judge", outcomes, {}, ({}, {}), 1, 5)


def test_the_truth_scores_every_answer_and_a_missing_one_as_empty():
    class Length:
        def score(self, prompt, completion, finish="stop") -> float:
            return float(len(completion))

    truth = Truth(((ChatMessage("user", "a"),), (ChatMessage("user", "b"),)), Length(), "world")
    items = complaints_of_truth(truth)
    first, second = (item.request.item_id for item in items)
    outcomes, skipped = true_outcomes(items, answers(**{first: "xx", second: "x"}), answers(**{first: "xxx"}), truth)
    assert [(o.old, o.new) for o in outcomes] == [(2, 3), (1, 0)]
    assert skipped == {}
