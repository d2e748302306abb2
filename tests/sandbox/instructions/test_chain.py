"""The logs of the world through the ordinary chain, and a real (tiny) policy deployed in it."""

import json
import random
from collections import Counter

import pytest

from drift.config import PolicySettings, SamplingSettings
from drift.policy.model import load_policy
from drift.records import PromptItem, read_jsonl
from drift.run import pairs_from_logs
from drift.sandbox.deployment import Reaction
from drift.sandbox.instructions.answers import right_answer
from drift.sandbox.instructions.chats import AssistantReply, chat_with, write_logs
from drift.sandbox.instructions.deployment import deploy_policy, heldout_truth, simulate_instructions
from drift.sandbox.instructions.recognise import assignment_of
from drift.sandbox.instructions.truth import InstructionOracle, summarize
from drift.sandbox.instructions.users import UserSettings
from drift.sandbox.instructions.world import heldout_prompts
from drift.store import Store

SAMPLING = SamplingSettings(max_new_tokens=12, max_prompt_length=512, temperature=1.0)


def half_right(chats, keys):
    replies = []
    for chat, key in zip(chats, keys, strict=True):
        rng, assignment = random.Random(key), assignment_of(chat)
        assert assignment is not None
        text, draw = right_answer(assignment, rng), rng.random()
        cut = len(text) * 2 // 3
        replies.append(AssistantReply(text) if draw < 0.5 else AssistantReply(text[:cut], "length"))
    return replies


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Chats, and what the ordinary chain makes of their logs."""
    folder = tmp_path_factory.mktemp("chain")
    chats = chat_with(half_right, 500, seed=3, settings=UserSettings(wrong_complaints=0.0, wrong_thanks=0.0))
    files = write_logs(chats, folder / "logs", "policy")
    store, out = Store(folder / "store"), folder / "prompts.jsonl"
    done = pairs_from_logs(files, store, out, 0.5)
    return chats, store, done, list(read_jsonl(out, PromptItem))


def test_every_chat_of_the_logs_is_stored_with_its_user_and_what_was_cut(chain):
    chats, store, done, _ = chain
    assert done.ingested.accepted == len(chats)
    stored = {conversation.source_id: conversation for conversation in store.conversations()}
    for chat in chats:
        conversation = stored[chat.source_id]
        assert [(m.role, m.content) for m in conversation.messages] == [(m.role, m.content) for m in chat.messages]
        assert conversation.user_key
        places = [i for i, m in enumerate(chat.messages) if m.role == "assistant"]
        assert [conversation.finish_of(place) for place in places] == chat.finishes
    assert len({c.user_key for c in stored.values()}) == len({chat.user for chat in chats})


def test_most_of_what_users_disliked_becomes_prompts_and_the_oracle_knows_each(chain):
    chats, store, _, items = chain
    told = {(r.source_id, r.message_index - 1): r for chat in chats for r in chat.reactions}
    source = {conversation.conversation_id: conversation.source_id for conversation in store.conversations()}
    labels = Counter(told[source[item.conversation_id], item.reply_index].label for item in items)
    assert labels["DSAT"] > 50
    assert labels["DSAT"] / labels.total() > 0.75
    oracle = InstructionOracle()
    for item in items:
        reaction = told[source[item.conversation_id], item.reply_index]
        assert item.rejected is not None
        truth = oracle.verdict(item.prompt, item.rejected.content, item.rejected_finish)
        assert (truth.score, truth.failed) == (reaction.utility, reaction.failed)


def test_a_policy_is_deployed_and_the_same_seed_gives_the_same_logs(tiny_policy, tmp_path):
    world = "hash"
    for name in ("one", "two"):
        counts = simulate_instructions(
            tmp_path / name, tiny_policy, PolicySettings(), SAMPLING, UserSettings(), 24, seed=1, world=world
        )
        assert counts["replies"] == 24
    logs = [sorted((tmp_path / name / "logs").glob("*.jsonl")) for name in ("one", "two")]
    assert [file.read_bytes() for file in logs[0]] == [file.read_bytes() for file in logs[1]]
    rows = [json.loads(line) for file in logs[0] for line in file.read_text().splitlines()]
    said = [message for row in rows for message in row["messages"] if message["role"] == "assistant"]
    assert len(said) == 24
    assert {message["finish_reason"] for message in said} <= {"stop", "length"}
    truths = list(read_jsonl(tmp_path / "one" / "truth.jsonl", Reaction))  # as the first world's are read
    assert truths
    assert all(truth.utility == 0.0 for truth in truths)


def test_an_interrupted_deployment_goes_on_from_its_finished_replies(tiny_policy, tmp_path, monkeypatch):
    policy = load_policy(tiny_policy, PolicySettings())
    whole = deploy_policy(policy, 12, 2, SAMPLING, work=tmp_path)
    monkeypatch.setattr("drift.policy.decode.loop.decode_batch", lambda *_: pytest.fail("made again"))
    assert [chat.messages for chat in deploy_policy(policy, 12, 2, SAMPLING, work=tmp_path)] == [
        chat.messages for chat in whole
    ]


def test_the_truth_of_a_policy_by_kind_and_part(tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings())
    prompts = heldout_prompts("test", 40)
    summary = summarize([truth for _, truth in heldout_truth(policy, prompts, 1, SAMPLING)])
    assert summary.replies == 40
    assert summary.right == 0.0
    assert summary.finished < 0.5
    assert sum(kind.replies for kind in summary.kinds.values()) >= 40
