"""A model against the logs: from a store and a loopback judge to the win rate."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.config import EndpointSettings
from drift.endpoint.options import JudgePricing
from drift.errors import ConfigError, DataError
from drift.evals.pairwise.compare import PairwiseRun, run_contest
from drift.evals.pairwise.heldout import from_store, heldout_requests
from drift.evals.pairwise.verdicts import PairVerdict, summarise
from drift.evals.replies import sampling_at
from drift.gate.guards import GUARDS
from drift.gate.plan import GateSettings, plan_gate
from drift.records import Conversation, FeedbackLabel, Message
from drift.scoring.judges import EndpointJudge, make_judge
from drift.store import Store


def verdict(preference: float | None, difference: int = 0, number: int = 0, subtype: str = "wrong") -> PairVerdict:
    unscored = None if preference is not None else "odd"
    return PairVerdict(str(number), *[str(number)] * 3, subtype, preference, difference, unscored)


def test_unscored_is_neither_a_tie_nor_a_loss():
    result = summarise([verdict(1.0), verdict(0.5, number=1), verdict(None, number=2), verdict(0.0, number=3)])
    assert (result.wins, result.ties, result.losses, result.unscored, result.scored) == (1, 1, 1, 1, 3)
    assert result.win_rate == 50
    assert result.unscored_reasons == {"odd": 1}
    nothing = summarise([verdict(None)])
    assert (nothing.win_rate, nothing.unscored) == (None, 1)


def test_by_subtype():
    result = summarise([verdict(1.0, subtype="wrong"), verdict(0.0, number=1, subtype="style")])
    assert {name: row.win_rate for name, row in result.subtypes.items()} == {"style": 0, "wrong": 100}


def test_users_are_drawn_whole():
    """Ten chats of one user are one draw: so a draw can hold either user alone."""
    verdicts = [PairVerdict(str(i), f"c{i}", "busy", f"c{i}", "x", 1.0, 0) for i in range(10)]
    result = summarise([*verdicts, PairVerdict("z", "z", "other", "z", "x", 0.0, 0)])
    assert (result.low, result.high, result.units) == (0, 100, 2)
    assert result.win_rate == pytest.approx(1000 / 11)


def test_of_one_user_the_chats_are_drawn():
    """Else there would be nothing to draw from, and an interval without width."""
    verdicts = [PairVerdict(str(i), f"c{i}", "me", f"c{i // 2}", "x", float(i < 10), 0) for i in range(20)]
    result = summarise(verdicts)
    assert (result.win_rate, result.units) == (50, 10)
    assert result.low is not None
    assert result.high is not None
    assert result.low < 30
    assert result.high > 70


def test_length_control_takes_out_what_length_explains():
    """Wins by length alone: the rate at equal length is near one half, the raw rate is not."""
    rng = np.random.default_rng(1)
    longer = rng.integers(50, 150, 200) * np.where(rng.uniform(size=200) < 0.8, -1, 1)  # the model's are mostly longer
    verdicts = [verdict(0.9 if d < 0 else 0.1, int(d), i) for i, d in enumerate(longer)]
    result = summarise(verdicts)
    assert result.win_rate is not None
    assert result.win_rate > 65
    assert result.length_controlled_win_rate == pytest.approx(50, abs=3)


@pytest.mark.parametrize("preference", [0.0, 1.0])
def test_who_loses_or_wins_every_comparison_has_no_length_controlled_rate(preference):
    """The logit that explains it is infinite; a fit would say 50 or 100."""
    result = summarise([verdict(preference, difference, n) for n, difference in enumerate(range(-15, 15))])
    assert (result.win_rate, result.length_controlled_win_rate) == (100 * preference, None)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(-500, 500)), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_swapping_the_models_turns_the_result_round(rows):
    one = summarise([verdict(p, d, i) for i, (p, d) in enumerate(rows)])
    other = summarise([verdict(1 - p, -d, i) for i, (p, d) in enumerate(rows)])
    assert one.win_rate is not None
    assert other.win_rate is not None
    assert one.win_rate + other.win_rate == pytest.approx(100)
    assert one.low is not None
    assert one.high is not None
    assert 0 <= one.low <= one.win_rate + 1e-9
    assert one.win_rate <= one.high + 1e-9 <= 100 + 1e-6
    if one.length_controlled_win_rate is not None and other.length_controlled_win_rate is not None:
        assert one.length_controlled_win_rate + other.length_controlled_win_rate == pytest.approx(100, abs=0.5)


@pytest.fixture
def store(tmp_path) -> Store:
    filled = Store(tmp_path / "store")
    chats = []
    for number, split in enumerate(["test", "test", "test", "train"]):
        request = "seen" if number == 2 else f"request {number}" if split == "test" else "seen"
        messages = (Message("user", request), Message("assistant", f"logged {number}"), Message("user", "No, wrong."))
        chats.append(Conversation(f"c{number}", "s", None, messages, split))  # pyright: ignore[reportArgumentType]
    filled.add(chats)
    filled.add_labels(FeedbackLabel(f"c{n}", 1, 2, "DSAT", "embedded", "1", subtype="wrong") for n in (0, 2))
    return filled


def test_held_out_requests(store):
    disliked = from_store(store, "disliked", 10)
    assert [(i.request.logged, i.subtype) for i in disliked.items] == [("logged 0", "wrong")]
    assert disliked.seen_in_training == 1  # the third request stands in training too
    assert {i.request.logged for i in from_store(store, "all", 10).items} == {"logged 0", "logged 1"}
    with pytest.raises(ConfigError, match="--store"):
        heldout_requests(["nothing"], None, "all", 3)
    trained_alone = Store(store.path.with_name("train"))
    trained_alone.add(store.conversations("train"))
    with pytest.raises(DataError, match="that training has not seen") as refused:
        heldout_requests(["nothing"], trained_alone.path, "all", 3)
    assert "--requests" not in str(refused.value)


def test_only_this_command_advises_its_own_option(store):
    """`drift gate` reads held-out requests too, and has no --requests."""
    store.add_labels([FeedbackLabel("c0", 1, 2, "SAT", "judge", "1")])
    with pytest.raises(DataError, match=r"take every answered request: --requests all\."):
        heldout_requests(["nothing"], store.path, "disliked", 3)
    with pytest.raises(DataError) as refused:
        plan_gate(
            GateSettings("a", "b", store.path / "out", store.path, judge="http://x#y", without=tuple(GUARDS)), None
        )
    assert "--requests" not in str(refused.value)
    assert str(refused.value).endswith("Or leave the target out: --target none.")


def test_two_servers_that_give_their_models_the_same_name(store, tmp_path, serve, said):
    """Both are asked; a finished comparison is not replayed, because the address may serve another model by now."""
    ours, theirs = (serve(lambda path, body, number, text=text: said.chat(text)) for text in ("fresh", "old"))
    judge = EndpointJudge(
        EndpointSettings(base_url=judged_by(serve, said, "fresh").url, model="judge", retries=0), tmp_path / "out"
    )
    contest = PairwiseRun(f"{ours.url}#m", f"{theirs.url}#m", sampling_at(0.0, 8), tmp_path / "out")
    for rounds in (1, 2):
        done = run_contest(contest, from_store(store, "all", 10), judge, False, lambda _: None)
        assert done.result is not None
        assert (done.result.win_rate, done.identical) == (100, 0)
        assert (len(ours.chats()), len(theirs.chats())) == (2 * rounds, 2 * rounds)


@pytest.mark.parametrize(("refusal", "asked_again"), [(400, 2), (None, 1)])
def test_what_a_server_refuses_does_not_keep_its_other_replies_for_good(
    store, tmp_path, serve, said, refusal, asked_again, monkeypatch
):
    """A refusal comes again: the comparison is finished, and the next one asks for all. What is no answer (no JSON)
    may still come: the next one asks for this alone."""
    monkeypatch.setattr("drift.endpoint.client.pause_before", lambda attempt: 0.005 * attempt)

    def reply(path, body, number):
        if body["messages"][-1]["content"] == "request 1":
            return said({"error": {"message": "no"}}, refusal) if refusal else said("no JSON")
        return said.chat("fresh")

    ours = serve(reply)
    judge = EndpointJudge(EndpointSettings(base_url=judged_by(serve, said, "fresh").url, model="judge"), tmp_path)
    contest = PairwiseRun(f"{ours.url}#m", "logs", sampling_at(0.0, 8), tmp_path / "out")
    asked = []
    for _ in range(2):
        done = run_contest(contest, from_store(store, "all", 10), judge, False, lambda _: None)
        assert done.result is not None
        assert done.result.unscored_reasons == {"no reply": 1}
        asked.append(sum(body["messages"][-1]["content"] == "request 0" for body in ours.chats()))
    assert asked == [1, asked_again]


def judged_by(serve, said, prefers):
    """A judge that likes the reply holding `prefers`; "second" likes what is shown second, "odd" says nothing."""

    def say(path, body, number):
        text = body["messages"][-1]["content"]
        if "logprobs" in body:
            return said("no logprobs here", 400)
        if prefers == "odd":
            return said.chat("I cannot say")
        if prefers == "second":
            return said.chat("B")
        return said.chat("A" if text.index(prefers) < text.index("<reply_b>") else "B")

    return serve(say)


@pytest.mark.parametrize(
    ("prefers", "win_rate", "ties", "unscored", "bias"),
    [("fresh", 100, 0, 0, 0), ("logged", 0, 0, 0, 0), ("second", 50, 2, 0, 1)],
)
def test_a_file_of_replies_against_the_logs(store, tmp_path, serve, said, prefers, win_rate, ties, unscored, bias):
    heldout = from_store(store, "all", 10)
    replies = tmp_path / "replies.jsonl"
    rows = [{"id": item.request.item_id, "output": f"fresh {i}"} for i, item in enumerate(heldout.items)]
    replies.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = judged_by(serve, said, prefers)
    judge = EndpointJudge(EndpointSettings(base_url=server.url, model="judge", retries=0), tmp_path / "out")
    contest = PairwiseRun(str(replies), "logs", sampling_at(0.0, 8), tmp_path / "out")
    told: list[str] = []
    dry = run_contest(contest, heldout, judge, True, told.append)
    assert (dry.result, len(server.chats()), "4 questions to ask" in told[0]) == (None, 0, True)
    done = run_contest(contest, heldout, judge, False, told.append)
    assert done.result is not None
    result = done.result
    assert (result.win_rate, result.ties, result.unscored, result.position_bias) == (win_rate, ties, unscored, bias)
    asked = len(server.chats())
    assert run_contest(contest, heldout, judge, False, told.append).result == result
    assert len(server.chats()) == asked  # nothing is asked twice


def test_a_judge_that_nobody_can_read_is_an_error(store, tmp_path, serve, said):
    heldout = from_store(store, "all", 10)
    replies = tmp_path / "replies.jsonl"
    rows = [{"id": item.request.item_id, "output": f"fresh {i}"} for i, item in enumerate(heldout.items)]
    replies.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = judged_by(serve, said, "odd")
    judge = EndpointJudge(EndpointSettings(base_url=server.url, model="judge", retries=0), tmp_path / "out")
    contest = PairwiseRun(str(replies), "logs", sampling_at(0.0, 8), tmp_path / "out")
    with pytest.raises(DataError, match=r"all 4 judgements of judge are unreadable: 4 wrong_form \("):
        run_contest(contest, heldout, judge, False, lambda _: None)


def test_a_policy_against_itself_asks_nobody(store, tmp_path, tiny_policy):
    judge = EndpointJudge(EndpointSettings(base_url="http://127.0.0.1:9", model="judge"), tmp_path / "out")
    heldout = from_store(store, "all", 10)
    contest = PairwiseRun(str(tiny_policy), str(tiny_policy), sampling_at(0.0, 8), tmp_path / "out")
    done = run_contest(contest, heldout, judge, False, lambda line: None)
    assert done.result is not None
    assert (done.identical, done.result.ties, done.result.win_rate) == (2, 2, 50)
    assert (tmp_path / "out" / "verdicts.jsonl").read_text().count("\n") == 2


def test_who_judges_must_be_named(tmp_path):
    for names in ((None, None), ("http://x#y", "z")):
        with pytest.raises(ConfigError, match="one of the two"):
            make_judge(*names, tmp_path, "float32", JudgePricing())
    with pytest.raises(ConfigError, match="with the model's name"):
        make_judge("http://x", None, tmp_path, "float32", JudgePricing())
