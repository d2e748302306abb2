"""Users who insist on wrong answers: a wrapper around the frozen deployment."""

import random
from itertools import pairwise

import pytest

from drift.experiments.deployment import DeploymentSettings
from drift.experiments.simulation import sandbox_truth
from drift.records import ChatMessage
from drift.sandbox.deployment import Session, deploy
from drift.sandbox.mistaken import contradict, is_mistaken, utility_at, with_mistaken_users, wrong_answer
from drift.sandbox.oracle import task_of
from drift.sandbox.world import heldout_tasks, utility


def always_right(chats, keys):
    """An assistant that never gives in."""
    return [task_of(tuple(m.content for m in chat if m.role == "user")).answer for chat in chats]


def copied(sessions):
    return [(s.source_id, s.user, tuple(s.messages), tuple(s.reactions)) for s in sessions]


def deployed(turns: int = 200) -> list[Session]:
    return deploy(always_right, turns, seed=3)


def test_nobody_is_mistaken_where_the_share_is_0():
    sessions = deployed()
    before = copied(sessions)
    assert copied(with_mistaken_users(sessions, always_right, 0.0, 3)) == before


def test_a_larger_share_adds_users_and_takes_none_away():
    names = [f"user-{n}" for n in range(2000)]
    few, many = ({name for name in names if is_mistaken(name, share, 1)} for share in (0.2, 0.4))
    assert few < many
    assert (0.17 < len(few) / 2000 < 0.23, 0.37 < len(many) / 2000 < 0.43) == (True, True)
    assert few != {name for name in names if is_mistaken(name, 0.2, 2)}


def test_mistaken_users_contradict_right_replies_with_wrong_answers_at_the_rate_of_complaints():
    sessions = deployed(1500)
    before = copied(sessions)
    told = with_mistaken_users(sessions, always_right, 1.0, 3)
    assert [session.source_id for session in told] == [row[0] for row in before]
    changed = [session for session, row in zip(told, before, strict=True) if tuple(session.messages) != row[2]]
    right = sum(m.role == "assistant" for row in before for m in row[2])
    assert 0.08 < len(changed) / right < 0.13  # 12 % of the right replies, once a chat
    for session in changed:
        first = next(r for r in session.reactions if r.label == "DSAT")
        assert first.utility == utility_at(session, first.message_index - 1) == 1.0
        assert [m.role for m in session.messages[:2]] == ["user", "assistant"]
        assert all(one.role != other.role for one, other in pairwise(session.messages))
    again = [s for s in changed if sum(m.role == "assistant" for m in s.messages) > 1 and len(s.reactions) > 1]
    assert {s.reactions[-1].label for s in again if s.messages[-1].role == "user"} <= {"DSAT"}


def test_a_policy_that_gives_in_is_praised_by_the_mistaken_user():
    sessions = [
        Session(
            f"chat-{n}", f"user-{n}", task, [ChatMessage("user", task.request), ChatMessage("assistant", task.answer)]
        )
        for n, task in enumerate(heldout_tasks("validation", 60) * 60)
        if task.skill == "add"
    ]

    def obeys(chats, keys):
        """It says the number that the user named and that it did not say itself."""
        replies = []
        for chat in chats:
            numbers = [word.strip("?.,") for word in chat[-1].content.split() if word.strip("?.,").isdecimal()]
            wrong = [number for number in numbers if number != chat[-2].content]
            replies.append(wrong[0])
        return replies

    told = with_mistaken_users(sessions, obeys, 1.0, 1)
    last = [session.reactions[-1] for session in told if len(session.reactions) > 1]
    assert last
    assert {reaction.label for reaction in last} == {"SAT"}
    assert all(reaction.utility < 1.0 for reaction in last)


def test_a_contradiction_names_a_wrong_answer_and_is_always_the_same():
    for task in heldout_tasks("test", 60):
        prompt = (ChatMessage("user", task.request),)
        said = contradict(prompt, task.answer)
        assert said == contradict(prompt, task.answer)
        assert utility(task, wrong_answer(task, random.Random(f"contradiction {task.request}"))) < 1.0
    assert sandbox_truth("test", 3).contradict is contradict
    assert sandbox_truth("test", 3, "long").contradict is None


def test_only_the_first_world_has_mistaken_users():
    assert DeploymentSettings(mistaken=0.2).mistaken == 0.2
    with pytest.raises(ValueError, match="only the first world has mistaken users, and this is the world long: set 0"):
        DeploymentSettings(world="long", mistaken=0.2)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        DeploymentSettings(mistaken=1.2)
