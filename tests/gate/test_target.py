"""The target: who wins on held-out complaints, by a judge, a reward model or the truth; by hand."""

from pathlib import Path

import pytest
import torch
from scipy.stats import binomtest, multinomial

from drift.config import PolicySettings
from drift.errors import ConfigError
from drift.evals.pairwise.heldout import HeldOut
from drift.evals.replies import EvalRequest
from drift.gate.guards import GUARDS
from drift.gate.plan import GateSettings
from drift.gate.run import run_gate
from drift.gate.target import (
    RequestOutcome,
    complaints_of_truth,
    feedback_judge,
    judged_outcomes,
    target_result,
    true_outcomes,
)
from drift.gate.verdict import explain
from drift.policy.model import load_policy, save_policy
from drift.records import ChatMessage, Completion, Conversation, FeedbackLabel, Message, Truth
from drift.scoring.judges import PairPreference, ReplyPair
from drift.store import Store


def answers(**texts: str) -> dict[str, Completion]:
    return {name: Completion(name, 0, 0, False, text, "stop", 0, "p", "t") for name, text in texts.items()}


def complaint(name: str, user: str = "", chat: str = "") -> HeldOut:
    request, own = EvalRequest(name, (ChatMessage("user", f"request {name}"),)), f"chat of {name}"
    return HeldOut(request, own, "wrong", user or own, chat or own)


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
    values = {outcome.complaint.request.item_id: (outcome.old, outcome.new) for outcome in outcomes}
    assert values == {"a": (0, 1), "b": (1, 0), "c": (0.5, 0.5)}
    assert skipped == {"no answer": 1, "unscored: odd": 1}


def test_the_gain_is_the_win_rate_minus_one_half():
    """30 wins, 10 losses: a win rate of .75."""
    outcomes = [RequestOutcome(complaint(str(n)), float(n < 10), float(n >= 10)) for n in range(40)]
    sides = answers(**{str(n): "old" for n in range(40)}), answers(**{str(n): "new" for n in range(40)})
    result = target_result("judge", outcomes, {}, sides, 1, 5)
    assert (result.change, result.old, result.new, result.kind) == (0.25, 0.25, 0.75, "target")
    assert result.verdict == "pass"
    assert [(item.old, item.new) for item in result.lost] == [("old", "new")] * 3


def outcomes_of(wins: int, losses: int, ties: int) -> list[RequestOutcome]:
    sides = [(0.0, 1.0)] * wins + [(1.0, 0.0)] * losses + [(0.5, 0.5)] * ties
    return [RequestOutcome(complaint(str(n)), *side) for n, side in enumerate(sides)]


@pytest.mark.parametrize(("wins", "losses", "ties"), [(2, 0, 0), (5, 0, 0), (5, 0, 195), (9, 1, 0), (10, 3, 50)])
def test_few_wins_are_no_gain_if_chance_gives_them_too_often(wins, losses, ties):
    """The first look may pass wrongly in 2 %; the sign test gives these 25 %, 3.1 %, 3.1 %, 1.1 % and 4.6 %."""
    result = target_result("judge", outcomes_of(wins, losses, ties), {}, ({}, {}), 1, 5)
    chance = float(binomtest(wins, wins + losses, alternative="greater").pvalue)
    assert (result.verdict == "pass") == (chance < 0.02)


@pytest.mark.parametrize("ties", [0.0, 0.5])
def test_equal_models_pass_as_rarely_as_stated_with_any_number_of_requests(ties):
    """Exactly, over all ways that the requests can end. Two requests passed in a quarter of them by Student's t.
    Without more wins than losses there is no gain."""
    for requests in (2, 3, 5, 9):
        ends = [(won, lost) for won in range(requests + 1) for lost in range(min(won, requests + 1 - won))]
        likely = {
            (won, lost, requests - won - lost): float(
                multinomial.pmf((won, lost, requests - won - lost), requests, ((1 - ties) / 2, (1 - ties) / 2, ties))
            )
            for won, lost in ends
        }
        passing = sum(
            chance
            for end, chance in likely.items()
            if chance and target_result("judge", outcomes_of(*end), {}, ({}, {}), 1, 5).verdict == "pass"
        )
        assert passing <= 0.02


def outcomes_of_users(wins: dict[str, tuple[int, int]]) -> list[RequestOutcome]:
    """By user: how many requests NEW wins, of how many; each in a chat of its own."""
    return [
        RequestOutcome(complaint(f"{user} {n}", user), float(n >= won), float(n < won))
        for user, (won, asked) in wins.items()
        for n in range(asked)
    ]


def test_few_users_decide_nothing_however_much_they_ask():
    """Five users who all prefer NEW are as little a gain as five wins; six are one."""
    verdicts = [
        target_result("judge", outcomes_of_users({f"u{n}": (40, 40) for n in range(users)}), {}, ({}, {}), 1, 5).verdict
        for users in (2, 5, 6)
    ]
    assert verdicts == ["undecided", "undecided", "pass"]


def test_a_busy_user_counts_once():
    """One user of 60 requests likes NEW, twenty with one request each do not: 1 of 21 users, and not 60 of 80."""
    users = {"busy": (60, 60)} | {f"u{n}": (0, 1) for n in range(20)}
    result = target_result("judge", outcomes_of_users(users), {}, ({}, {}), 1, 5)
    assert (result.new, result.old, result.items) == (pytest.approx(1 / 21), pytest.approx(20 / 21), 80)
    assert (result.verdict, result.change) == ("fail", pytest.approx(1 / 21 - 0.5))


def test_of_one_user_the_chats_count():
    """A personal log: the verdict is about this user."""
    result = target_result("judge", outcomes_of_users({"me": (30, 40)}), {}, ({}, {}), 1, 5)
    assert (result.change, result.verdict) == (0.25, "pass")


def test_half_of_the_answers_do_not_pass():
    """Of what is missing nobody knows who won."""
    outcomes = outcomes_of(40, 5, 0)
    whole = target_result("judge", outcomes, {}, ({}, {}), 1, 5)
    half = target_result("judge", outcomes, {"no answer": 30, "unscored: odd": 15}, ({}, {}), 1, 5)
    assert (whole.verdict, half.verdict) == ("pass", "undecided")
    assert "45 of 90 items could not be compared (no answer, unscored: odd)" in explain(half)


def test_a_judge_that_was_killed_while_it_was_written_is_made_again(tmp_path, tiny_policy):
    """config.json is written before the weights, quality.json after them."""
    store, folder = liked_and_disliked(tmp_path / "store"), tmp_path / "judge"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    judge = feedback_judge(str(tiny_policy), store, folder, "float32", 0)
    assert (folder / "quality.json").is_file()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    feedback_judge(str(tiny_policy), store, folder, "float32", 0)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    pair = ReplyPair("a", "a", (ChatMessage("user", "question 7"),), "nah nah", "yes yes")
    assert judge.decide([pair])[0].value == 1.0


def test_a_retrained_old_model_has_another_judge(tmp_path, tiny_policy):
    """The judge starts from OLD's weights, whatever the path of their folder."""
    store, old, out = liked_and_disliked(tmp_path / "store"), tmp_path / "old", tmp_path / "out"
    settings = GateSettings(str(tiny_policy), str(old), out, store.path, without=tuple(GUARDS), max_new_tokens=4)
    for change in (0.0, 1e-4):
        policy = load_policy(tiny_policy, PolicySettings())
        with torch.no_grad():
            next(policy.model.parameters()).add_(change)
        save_policy(policy, old)
        run_gate(settings, None, False, lambda line: None)
    assert len(list(out.glob("feedback-reward-*"))) == 2


def liked_and_disliked(path: Path) -> Store:
    """Users like replies with `yes` and dislike those with `nah`."""
    chats, labels = [], []
    for number in range(160):
        for word, verdict in (("yes", "SAT"), ("nah", "DSAT")):
            reply = " ".join([word] * (1 + number % 3))
            messages = (Message("user", f"question {number}"), Message("assistant", reply), Message("user", "hm"))
            split = "test" if number % 8 == 0 else "train"
            chats.append(Conversation(f"c{number}{word}", "test", None, messages, split))
            labels.append(FeedbackLabel(f"c{number}{word}", 1, 2, verdict, "embedded", "1"))
    store = Store(path)
    store.add(chats)
    store.add_labels(labels)
    return store


def test_two_of_one_conversation_are_not_enough():
    outcomes = [RequestOutcome(complaint(name, "me", "one chat"), 0.0, 1.0) for name in "ab"]
    with pytest.raises(ConfigError, match=r"could be compared \(2; left out: none\) are of 1 chat, .*--target none"):
        target_result("judge", outcomes, {}, ({}, {}), 1, 5)


def test_two_users_name_the_further_users_that_would_decide():
    """A user with 40 wins of 40, and one with a win and a loss: gains of .5 and 0, whatever else these two ask. Each of
    the further users brings 21 requests, as the two do on average."""
    result = target_result("judge", outcomes_of_users({"busy": (40, 40), "new": (1, 2)}), {}, ({}, {}), 1, 5)
    assert (result.verdict, result.unit) == ("undecided", "user")
    further = result.further_units
    assert further is not None
    assert result.further_items == 21 * further
    assert explain(result).endswith(f"about {further} more users would decide, if each brings as many items as now")
    busier = {"busy": (4000, 4000), "new": (100, 200)}
    assert target_result("judge", outcomes_of_users(busier), {}, ({}, {}), 2, 5).verdict == "undecided"
    as_many = -(-(2 + further) // 2)
    for pairs, verdict in ((as_many, "pass"), (as_many - 1, "undecided")):
        users = {f"{name}{n}": won for n in range(pairs) for name, won in (("busy", (40, 40)), ("new", (1, 2)))}
        assert target_result("judge", outcomes_of_users(users), {}, ({}, {}), 2, 5).verdict == verdict


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
