"""Simulated users and the logs of the deployment, with an assistant that is right in about a third of the cases."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from drift.errors import ConfigError
from drift.records import ChatMessage
from drift.sandbox.instructions.answers import right_answer
from drift.sandbox.instructions.assignment import Assignment
from drift.sandbox.instructions.book import asks, chapters, follow_ups, instruct, topics_of
from drift.sandbox.instructions.chats import AssistantReply, chat_with, write_logs
from drift.sandbox.instructions.constraints import Constraint
from drift.sandbox.instructions.recognise import assignment_of, fold, recognise
from drift.sandbox.instructions.truth import InstructionOracle, judge
from drift.sandbox.instructions.users import ReactionRates, UserSettings, complain
from drift.sandbox.instructions.world import heldout_prompts, instructions_truth, instructions_world_hash

OF_ALL = {"wrong_complaints": 0.0, "of_all_replies": True}


def assistant(chats, keys):
    """Right answers, of which two thirds are spoiled by a beginning or cut."""
    replies = []
    for chat, key in zip(chats, keys, strict=True):
        rng = random.Random(key)
        assignment = assignment_of(chat)
        assert assignment is not None
        text, draw = right_answer(assignment, rng), rng.random()
        if draw < 0.5:
            text = f"Sure, Here you go! Very many important things,\n\n{text}\n\nI hope, friend, this helps often."
        replies.append(AssistantReply(text, "length" if draw > 0.85 else "stop"))
    return replies


@pytest.fixture(scope="module")
def chats():
    return chat_with(assistant, 1200, seed=1, settings=UserSettings(wrong_thanks=0.1, wrong_complaints=0.1))


def reactions_of(chats):
    return [reaction for chat in chats for reaction in chat.reactions]


def test_reactions_name_the_user_turn_after_the_judged_reply_and_the_truth_about_it(chats):
    oracle = InstructionOracle()
    for chat in chats:
        finishes = iter(chat.finishes)
        finish_of = {i: next(finishes) for i, m in enumerate(chat.messages) if m.role == "assistant"}
        for reaction in chat.reactions:
            place = reaction.message_index
            assert chat.messages[place].role == "user"
            truth = oracle.verdict(chat.messages[: place - 1], chat.messages[place - 1].content, finish_of[place - 1])
            assert (truth.score, truth.failed) == (reaction.utility, reaction.failed)


def test_shares_of_thanks_and_complaints_are_those_of_the_settings(chats):
    replies = sum(len(chat.finishes) for chat in chats)
    said = reactions_of(chats)
    thanks = [r for r in said if r.label == "SAT"]
    complaints = [r for r in said if r.label == "DSAT"]
    assert replies == 1200
    assert 0.06 < sum(r.utility == 0 for r in thanks) / len(thanks) < 0.15
    assert 0.06 < sum(r.utility == 1 for r in complaints) / len(complaints) < 0.15
    styles = Counter(r.style for r in complaints)
    assert 0.13 < styles["vague"] / len(complaints) < 0.30
    assert {"specific", "mistaken", "rephrase"} <= set(styles)
    assert all(r.about in r.failed for r in complaints if r.style == "specific")
    assert all(r.about not in r.failed for r in complaints if r.style == "mistaken")
    assert any(r.failed and r.about not in r.failed for r in complaints if r.style == "mistaken")


@pytest.mark.parametrize(
    ("settings", "right", "wrong", "expected"),
    [
        # half of 20 users say thanks, 70 % of 80 complain; nothing undeserved
        (UserSettings(thanks=0.5, complaints=0.7, wrong_complaints=0.0), 20, 80, (0.5, 0.0, 0.0, 0.7)),
        # 10 deserved thanks are .9 of all: 10 / 9 among the 80
        (UserSettings(thanks=0.5, wrong_thanks=0.1, wrong_complaints=0.0), 20, 80, (0.5, 10 / 9 / 80, 0.0, 0.7)),
        # 56 deserved complaints are .8 of all: 14 among the 20
        (UserSettings(thanks=0.2, wrong_complaints=0.2), 20, 80, (0.2, 0.0, 0.7, 0.7)),
        # 5 % and 12 % of 100 replies
        (UserSettings(thanks=0.05, complaints=0.12, **OF_ALL), 20, 80, (0.25, 0.0, 0.0, 0.15)),
        # more than there are right replies: everybody says so
        (UserSettings(thanks=0.5, complaints=0.1, **OF_ALL), 20, 80, (1.0, 0.0, 0.0, 0.125)),
        (UserSettings(wrong_thanks=0.3, wrong_complaints=0.0), 0, 10, (0.0, 0.0, 0.0, 0.7)),
    ],
)  # fmt: skip
def test_rates_by_hand(settings, right, wrong, expected):
    rates = ReactionRates.of(settings, right, wrong)
    found = (rates.thanks_if_right, rates.thanks_if_wrong, rates.complaint_if_right, rates.complaint_if_wrong)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thanks": 1.5}, "users.thanks: 1.5 is not a share; allowed: 0 to 1"),
        ({"careless": -0.1}, "users.careless: -0.1 is not a share"),
        ({"wrong_thanks": 1.0}, "users.wrong_thanks: 1 leaves no deserved ones"),
        ({"two_constraints": 0.9, "three_constraints": 0.2}, "two_constraints . three_constraints may not"),
        ({"kinds": ("bulets",)}, "users.kinds: bulets gives no requests; allowed: max_words"),
        ({"kinds": ("shorter",)}, "users.kinds: shorter gives no requests"),
        ({"vague": 0.9, "mistaken": 0.2}, "may not be more than 1"),
    ],
)
def test_settings_that_are_no_shares_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        UserSettings(**change)


@pytest.mark.parametrize(("name", "value"), [("vague", 1.0), ("mistaken", 1.0), ("rephrase", 1.0)])
def test_a_complaint_has_the_style_that_is_asked_for(name, value):
    settings = replace(UserSettings(vague=0.0, mistaken=0.0, rephrase=0.0, careless=0.0), **{name: value})
    constraints = (Constraint("no_commas"), Constraint("bullets", ("3",)))
    assignment = Assignment("sailing", constraints, "Tell me about sailing. No commas, please. Give me 3 bullets.")
    truth = judge(assignment, "Boats sail with the wind.")
    assert truth.failed == ("bullets",)
    rng, said = random.Random(0), Counter()
    for _ in range(200):
        text, style, about = complain(rng, settings, assignment, truth)
        said[text] += 1
        assert style == name
        assert about == {"vague": None, "mistaken": "no_commas", "rephrase": "bullets"}[name]
    assert len(said) >= 10
    assert "Give me 3 bullets." not in " ".join(said) or name != "rephrase"


def test_a_complaint_about_a_right_reply_names_something_that_holds():
    assignment = Assignment("sailing", (Constraint("no_commas"),), "Tell me about sailing. No commas, please.")
    truth = judge(assignment, "Boats sail with the wind.")
    assert truth.right
    rng, settings = random.Random(0), UserSettings(vague=0.0, mistaken=0.0, rephrase=0.0)
    assert {complain(rng, settings, assignment, truth)[1:] for _ in range(50)} == {("mistaken", "no_commas")}


def test_what_is_unfinished_or_off_topic_is_named_too():
    assignment = Assignment("sailing", (Constraint("no_commas"),), "Tell me about sailing. No commas, please.")
    truth = judge(assignment, "It is a lovely thing to do on a weekend with some of your friends and", "length")
    assert truth.failed == ("unfinished", "off_topic")
    rng, settings = random.Random(0), UserSettings(vague=0.0, mistaken=0.0, rephrase=0.0, careless=0.0)
    said = {complain(rng, settings, assignment, truth) for _ in range(400)}
    assert {about for _, _, about in said} == {"unfinished", "off_topic"}
    assert "My topic was sailing." in {text for text, _, _ in said}


def test_a_tenth_of_the_requests_is_typed_carelessly(chats):
    first = [chat.messages[0].content for chat in chats]
    assert 0.06 < sum(text == text.lower() for text in first) / len(first) < 0.15


def test_the_same_seed_gives_the_same_chats_and_another_one_others():
    one, two, other = (chat_with(assistant, 150, seed) for seed in (5, 5, 6))
    assert [chat.messages for chat in one] == [chat.messages for chat in two]
    assert [chat.messages for chat in one] != [chat.messages for chat in other]


def test_chats_have_several_turns_and_follow_ups(chats):
    turns = Counter(len(chat.finishes) for chat in chats)
    assert turns[1] > turns[2] > 0
    assert turns[3] > 0
    assert any(constraint.kind == "shorter" for chat in chats for constraint in chat.assignment.constraints)


@pytest.mark.parametrize(("replies", "most"), [(1, 1), (7, 3), (60, 6)])
def test_few_replies_leave_time_for_second_ones_too(replies, most):
    found = chat_with(assistant, replies, seed=2, settings=UserSettings(retries=1.0, follow_ups=0.5, new_requests=0.5))
    assert sum(len(chat.finishes) for chat in found) == replies
    assert max(len(chat.finishes) for chat in found) >= min(most, 2)
    assert all(len(chat.finishes) <= 6 for chat in found)


def test_users_ask_for_the_kinds_and_as_much_as_the_settings_say():
    kinds = ("bullets", "no_commas", "shorter")
    settings = UserSettings(two_constraints=0.0, three_constraints=0.0, kinds=kinds, follow_ups=1.0, new_requests=0.0)
    found = chat_with(assistant, 200, seed=4, settings=settings)
    assert {c.kind for chat in found for c in chat.assignment.constraints} == set(kinds)
    first = [assignment_of(chat.messages[:1]) for chat in found]
    assert {len(assignment.constraints) for assignment in first if assignment} == {1}
    prompts = heldout_prompts("test", 40, settings.mix)
    assert {c.kind for p in prompts for a in [assignment_of(p)] if a for c in a.constraints} == set(kinds)
    usual = [assignment_of(prompt[:1]) for prompt in heldout_prompts("test", 400)]
    counts = Counter(len(assignment.constraints) for assignment in usual if assignment)
    assert counts[1] > counts[2] > counts[3] > 0


def test_the_logs_hold_the_chats_and_nothing_of_the_truth(chats, tmp_path):
    files = write_logs(chats, tmp_path, "policy")
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [row["id"] for row in rows] == [chat.source_id for chat in chats]
    assert all(set(row) == {"id", "user", "model", "messages", "timestamp"} for row in rows)
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
    for row, chat in zip(rows, chats, strict=True):
        assert [ChatMessage(m["role"], m["content"]) for m in row["messages"]] == chat.messages
        assert [m["finish_reason"] for m in row["messages"] if m["role"] == "assistant"] == chat.finishes
        assert not any("finish_reason" in m for m in row["messages"] if m["role"] == "user")


def test_nothing_of_the_held_out_parts_is_in_the_logs(chats):
    requests = 0
    for chat in chats:
        for place, message in enumerate(chat.messages):
            if message.role != "user" or recognise(message.content) is None:
                continue
            requests += 1
            said, assignment = fold(message.content), assignment_of(chat.messages[: place + 1])
            assert assignment is not None
            assert assignment.topic in topics_of("logs")
            assert all(c.values in chapters()[c.kind].values["logs"] for c in assignment.constraints)
            for part in ("validation", "test"):
                held = [ask.format(topic=assignment.topic) for ask in (*asks(part), *follow_ups("switch", part))]
                for c in assignment.constraints:
                    held += [instruct(c, template) for template in chapters()[c.kind].instructions[part]]
                assert not any(fold(text) in said for text in held), message.content
    assert requests > len(chats)


def test_heldout_prompts_are_different_even_over_kinds_and_a_prefix_of_a_longer_list():
    prompts = heldout_prompts("test", 340)
    assert len(set(prompts)) == 340
    assert heldout_prompts("test", 20) == prompts[:20]
    assert not set(prompts) & set(heldout_prompts("validation", 340))
    found = [assignment_of(prompt) for prompt in prompts]
    kinds = Counter(c.kind for assignment in found if assignment for c in assignment.constraints)
    assert min(kinds[kind] for kind in chapters() if kind not in ("shorter", "longer")) >= 8
    assert kinds["shorter"] + kinds["longer"] >= 10
    assert 0.2 < sum(len(prompt) > 1 for prompt in prompts) / 340 < 0.4


def test_earlier_replies_of_held_out_prompts_are_right():
    oracle = InstructionOracle()
    for prompt in heldout_prompts("test", 120):
        for place, message in enumerate(prompt):
            if message.role == "assistant":
                assert oracle.score(prompt[:place], message.content) == 1.0


def test_the_truth_is_what_evaluation_and_oracle_scorers_take():
    truth = instructions_truth("validation", 30)
    assert len(truth.prompts) == 30
    assert truth.world == instructions_world_hash()
    assert truth.scorer.score(truth.prompts[0], "") == 0.0
    assert truth.fingerprint() != instructions_truth("test", 30).fingerprint()
