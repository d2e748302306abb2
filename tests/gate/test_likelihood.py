"""Ordinary conversations: which replies are taken, and how far a policy moved on them; by hand."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drift.config import PolicySettings
from drift.errors import DataError
from drift.gate.guards.likelihood import (
    OrdinaryMeasure,
    OrdinaryReply,
    kl_per_token,
    measure_ordinary,
    ordinary_replies,
)
from drift.gate.measure import measure_of_store
from drift.policy.logps import reply_logps
from drift.policy.model import load_policy
from drift.records import ChatMessage, Conversation, FeedbackLabel, Message, Split
from drift.store import Store


def test_kl_by_hand():
    """Old (1/2, 1/2), new (3/4, 1/4): ln(2/3) / 2 + ln(2) / 2; a second position without a difference halves it."""
    old, new = torch.zeros(2, 2), torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert kl_per_token(old, new) == pytest.approx((math.log(2 / 3) + math.log(2)) / 4, abs=1e-6)
    assert kl_per_token(new, new) == 0.0


def chat(number: int, split: Split, reply: str = "It is fine.") -> Conversation:
    messages = (Message("user", f"request {number}"), Message("assistant", reply), Message("user", "Thanks!"))
    return Conversation(f"c{number:03}", "s", None, messages, split)


@pytest.fixture
def store(tmp_path) -> Store:
    filled = Store(tmp_path / "store")
    filled.add([chat(number, "test" if number % 2 else "train") for number in range(60)])
    filled.add([chat(100, "test", reply=" ")])
    filled.add_labels(
        [FeedbackLabel("c001", 1, 2, "DSAT", "embedded", "1"), FeedbackLabel("c003", 1, 2, "SAT", "embedded", "1")]
    )
    return filled


def test_only_held_out_conversations_without_a_complaint(store):
    """30 of the test split, less the one with a complaint; the empty reply is none."""
    found = ordinary_replies(store, 200)
    assert all(reply.user == reply.chat == reply.conversation_id for reply in found)  # the log names nobody
    assert {reply.conversation_id for reply in found} == {f"c{n:03}" for n in range(3, 60, 2)}
    assert [reply.item_id for reply in ordinary_replies(store, 5)] == [reply.item_id for reply in found[:5]]


def test_replies_that_could_not_be_measured_do_not_pass(store):
    """A twentieth may be missing, and not a tenth; NEW says every reply as OLD does."""
    replies = ordinary_replies(store, 200)
    measures = {reply.item_id: OrdinaryMeasure(reply.item_id, -9.0, -9.0, 3, 0.0) for reply in replies}
    whole = measure_of_store("perplexity", replies, measures, 0.1, 1, 2)
    unread = {reply.item_id: None for reply in replies[:3]}
    some = measure_of_store("perplexity", replies, {**measures, **unread}, 0.1, 1, 2)
    short = measure_of_store("perplexity", replies, dict(list(measures.items())[3:]), 0.1, 1, 2)
    assert whole is not None
    assert some is not None
    assert (whole.verdict, some.verdict) == ("pass", "undecided")
    assert some.skipped == {"too long, or not shown by the template, for NEW alone": 3}
    assert short is not None
    assert (short.verdict, short.skipped) == ("pass", {})  # OLD cannot read them either
    assert some.note.startswith("3 of 29 items could not be compared")


def test_a_store_that_lost_its_conversations_is_one_error(tmp_path, store):
    with pytest.raises(DataError, match="holds no conversations"):
        ordinary_replies(Store(tmp_path / "empty"), 200)


def test_too_few_ordinary_replies_name_the_way_out(tmp_path):
    few = Store(tmp_path / "few")
    few.add([chat(number, "test") for number in range(7)])
    with pytest.raises(DataError, match=r"only 7 held-out conversations without a complaint.*--without perplexity"):
        ordinary_replies(few, 200)


@pytest.mark.parametrize(("users", "whose"), [(5, "5 users"), (6, None), (1, None)])
def test_planning_counts_the_users_that_the_guards_count(tmp_path, users, whose):
    """60 conversations of 5 users count as 5, those of 6 users as 6, and those of a single user as 60."""
    filled = Store(tmp_path / "filled")
    filled.add([replace(chat(number, "test"), user_key=f"u{number % users}") for number in range(60)])
    if whose is None:
        assert len(ordinary_replies(filled, 200)) == 60
    else:
        with pytest.raises(DataError, match=rf"only 60 held-out .*, of {whose}, .* need 20, of 6 users or chats"):
            ordinary_replies(filled, 200)


@pytest.mark.parametrize("name", ["perplexity", "kl"])
def test_replies_of_one_chat_ask_for_more_users_or_chats(name):
    replies = [replace(reply_of(f"r{n}", "me"), chat="one chat") for n in range(60)]
    measures = {reply.item_id: OrdinaryMeasure(reply.item_id, -9.0, -9.0, 3, 0.0) for reply in replies}
    with pytest.raises(DataError, match=rf"guard {name}: .*\(60\) are of 1 chat, .* more users or chats.*--without"):
        measure_of_store(name, replies, measures, 0.1, 1, 2)


def test_the_perplexities_are_means_over_users_as_their_change_is():
    """OLD says all at 2 nats per token. Three users lose .6 on one reply each, a fourth gains .1 on each of 57: their
    mean loss is (3 * .6 - .1) / 4 = .425 nats, where that of the 60 equally long replies is a gain of .065."""
    replies = [reply_of(f"r{n}", f"u{min(n, 3)}") for n in range(60)]
    measures = {f"r{n}": OrdinaryMeasure(f"r{n}", -20.0, -26.0 if n < 3 else -19.0, 10, None) for n in range(60)}
    result = measure_of_store("perplexity", replies, measures, 0.1, 1, 2)
    assert result is not None
    assert result.change == pytest.approx(-0.425)
    assert (result.old, result.new) == (pytest.approx(math.exp(2.0)), pytest.approx(math.exp(2.425)))


def test_equal_policies_have_not_moved_and_nothing_is_measured_twice(tiny_policy, tmp_path, store):
    policy = load_policy(tiny_policy, PolicySettings())
    replies = ordinary_replies(store, 3)
    measured = measure_ordinary(policy, policy, replies, 200, tmp_path)
    for reply in replies:
        row = measured[reply.item_id]
        (direct,) = reply_logps(policy, [reply.prompt], [(reply.reply, "stop")], 200)
        assert direct is not None
        assert (row.kl, row.tokens) == (0.0, direct.tokens)
        assert row.old_logp == row.new_logp == pytest.approx(direct.total, abs=1e-3)
    file: Path = next(tmp_path.glob("ordinary-*.jsonl"))
    before = file.read_bytes()
    assert measure_ordinary(policy, policy, replies, 200, tmp_path) == measured
    assert file.read_bytes() == before


def test_a_reply_that_does_not_fit_is_counted(tiny_policy, tmp_path, store):
    policy = load_policy(tiny_policy, PolicySettings())
    replies = ordinary_replies(store, 3)
    assert measure_ordinary(policy, policy, replies, 10, tmp_path) == {}
    assert measure_of_store("perplexity", replies, {}, 0.1, 1, 2) is None


def reply_of(name: str, user: str) -> OrdinaryReply:
    asked, reply = (ChatMessage("user", "a"),), ChatMessage("assistant", "b")
    return OrdinaryReply(name, name, user, name, asked, reply, "stop", None)


@pytest.mark.parametrize("name", ["perplexity", "kl"])
def test_a_user_counts_once_in_the_guards_of_the_store(name):
    """A busy user's 90 replies lose a nat per token, those of 30 others nothing: -1/31, and not -3/4."""
    replies = [reply_of(f"b{n}", "busy") for n in range(90)] + [reply_of(f"o{n}", f"u{n}") for n in range(30)]
    lost = {reply.item_id: float(reply.user == "busy") for reply in replies}
    measures = {i: OrdinaryMeasure(i, -10.0, -10.0 - 10 * loss, 10, loss) for i, loss in lost.items()}
    result = measure_of_store(name, replies, measures, 0.2, 1, 2)
    assert result is not None
    assert (result.change, result.items, result.verdict) == (pytest.approx(-1 / 31), 120, "pass")


def test_the_guards_of_the_store_by_hand():
    """Two replies of 10 tokens, log-probs -10 and -20 of OLD, -12 and -24 of NEW: .2 and .4 nats per token."""
    replies = [reply_of(c, c) for c in "xyz"]
    measures = {
        "x": OrdinaryMeasure("x", -10.0, -12.0, 10, 0.1),
        "y": OrdinaryMeasure("y", -20.0, -24.0, 10, 0.3),
    }
    perplexity = measure_of_store("perplexity", replies, measures, 0.1, 1, 2)
    kl = measure_of_store("kl", replies, measures, 0.2, 1, 2)
    assert perplexity is not None
    assert kl is not None
    assert perplexity.change == pytest.approx(-0.3)
    assert (perplexity.old, perplexity.new) == (pytest.approx(math.exp(1.5)), pytest.approx(math.exp(1.8)))
    assert perplexity.skipped == {}  # z is too long for OLD too
    assert (kl.change, kl.new) == (pytest.approx(-0.2), pytest.approx(0.2))
