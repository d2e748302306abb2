import random

import pytest

from drift.records import ChatMessage
from drift.sandbox.corpus import reply
from drift.sandbox.deployment import deploy
from drift.sandbox.long.corpus import reply as list_reply
from drift.sandbox.long.deployment import deploy_lists
from drift.sandbox.oracle import Oracle, task_of


def chats_of(world: str):
    """Sessions in which the policy answers as the pretraining corpus does, from the request that it finds itself."""
    rng = random.Random(world)

    def answer(chats, keys):
        tasks = [task_of(tuple(m.content for m in chat if m.role == "user")) for chat in chats]
        return [(reply if world == "first" else list_reply)(task, rng) for task in tasks]

    return (deploy if world == "first" else deploy_lists)(answer, 1200, seed=5, noise=0.2)


@pytest.mark.parametrize("world", ["first", "long"])
def test_the_oracle_gives_every_judged_reply_the_worlds_own_utility(world):
    oracle, judged = Oracle(), 0
    for session in chats_of(world):
        for reaction in session.reactions:
            place = reaction.message_index - 1
            prompt = session.messages[:place]
            assert oracle.score(prompt, session.messages[place].content) == pytest.approx(reaction.utility)
            judged += 1
    assert judged > 300


def test_what_is_no_request_is_refused():
    with pytest.raises(ValueError, match="not a request of the sandbox"):
        Oracle().score([ChatMessage("user", "hello")], "hi")
