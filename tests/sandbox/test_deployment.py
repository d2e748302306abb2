import json
import random

from drift.records import ChatMessage
from drift.sandbox import users
from drift.sandbox.deployment import Rates, deploy, write_logs
from drift.sandbox.world import tasks


def half_right(chats, keys):
    """An assistant that answers every second stream rightly, as far as the request stands alone."""
    known = {}
    source = tasks(random.Random("deployment 1"), "deployment")
    for _ in range(4000):
        task = next(source)
        known[task.request] = task.answer
    return [
        known.get(chat[-1].content, "no idea") if int(key.split("-")[1].split()[0]) % 2 else "Sure! I am happy to help."
        for chat, key in zip(chats, keys, strict=True)
    ]


def test_reactions_come_at_the_intended_rates_and_follow_the_utility():
    sessions = deploy(half_right, 3000, seed=1)
    reactions = [r for s in sessions for r in s.reactions]
    complaints = [r for r in reactions if r.label == "DSAT"]
    praise = [r for r in reactions if r.label == "SAT"]
    assert sum(m.role == "assistant" for s in sessions for m in s.messages) == 3000
    assert 0.10 < len(complaints) / 3000 < 0.17
    assert 0.03 < len(praise) / 3000 < 0.08
    assert sum(r.utility for r in complaints) / len(complaints) < 0.0
    assert sum(r.utility for r in praise) / len(praise) > 0.9


def test_a_reaction_names_the_user_turn_after_the_judged_reply():
    for session in deploy(half_right, 500, seed=2):
        for reaction in session.reactions:
            assert session.messages[reaction.message_index].role == "user"
            assert session.messages[reaction.message_index - 1].role == "assistant"


def test_false_complaints_fall_on_right_replies_too():
    rates = Rates.of([1.0] * 50 + [0.0] * 50, noise=1.0)
    verdicts = [rates.verdict(1.0, False, random.Random(i)) for i in range(2000)]
    assert 0.09 < verdicts.count("DSAT") / 2000 < 0.15
    assert Rates.of([1.0, 0.0], noise=0.0).verdict(1.0, False, random.Random(0)) != "DSAT"


def test_the_logs_hold_the_chats_and_nothing_of_the_truth(tmp_path):
    sessions = deploy(half_right, 200, seed=3)
    files = write_logs(sessions, tmp_path, "base-1")
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [row["id"] for row in rows] == [s.source_id for s in sessions]
    assert all(set(row) == {"id", "user", "model", "messages", "timestamp"} for row in rows)
    assert [ChatMessage(**m) for m in rows[0]["messages"]] == sessions[0].messages


def test_complaints_vary():
    rng = random.Random(0)
    said = {users.complain(rng, "add", "What is 2 + 2?", "5", "4", evasive=False) for _ in range(1000)}
    assert len(said) > 300
