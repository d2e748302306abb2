"""Requests and follow-ups: they can be answered, are recognised from their words, and parts share nothing."""

import random

import pytest

from drift.records import ChatMessage
from drift.sandbox.instructions.answers import right_answer
from drift.sandbox.instructions.assignment import (
    Assignment,
    compatible,
    draw_follow_up,
    draw_request,
    protected_words,
    written,
)
from drift.sandbox.instructions.book import PARTS, asks, chapters, follow_ups, phrases, topics, topics_of
from drift.sandbox.instructions.constraints import KINDS, Constraint
from drift.sandbox.instructions.recognise import assignment_of, recognise
from drift.sandbox.instructions.truth import judge

ABSOLUTE = [name for name, kind in KINDS.items() if not kind.relative]


def requests(seed, count):
    """Evenly over parts and kinds."""
    rng = random.Random(seed)
    for i in range(count):
        yield draw_request(rng, PARTS[i % 3], ABSOLUTE[i // 3 % len(ABSOLUTE)]), PARTS[i % 3], rng


def conversations(seed, count, careless=0.0):
    """A request, a right answer, a follow-up, a right answer, another follow-up."""
    for assignment, part, rng in requests(seed, count):
        asked = written(rng, assignment.asked, careless, protected_words(assignment))
        messages = [ChatMessage("user", asked)]
        yield assignment, messages, rng
        for _ in range(2):
            reply = right_answer(assignment, rng)
            asked, assignment = draw_follow_up(rng, part, assignment, reply)
            asked = written(rng, asked, careless, protected_words(assignment))
            messages = [*messages, ChatMessage("assistant", reply), ChatMessage("user", asked)]
            yield assignment, messages, rng


MANY = pytest.mark.parametrize("count", [180, pytest.param(600, marks=pytest.mark.slow)])
"""180 requests are about two of each part and kind."""


@MANY
def test_every_request_and_follow_up_can_be_answered_rightly(count):
    for assignment, messages, rng in conversations(1, count):
        reply = right_answer(assignment, rng)
        assert judge(assignment, reply).failed == (), (messages[-1].content, reply)


@MANY
@pytest.mark.parametrize("careless", [0.0, 1.0])
def test_what_a_user_wants_is_recognised_from_the_messages_alone(careless, count):
    for assignment, messages, _ in conversations(2, count, careless):
        found = assignment_of(messages)
        assert found is not None, messages[-1].content
        assert (found.topic, found.constraints) == (assignment.topic, assignment.constraints), messages[-1].content
        assert found.before == assignment.before


def test_a_request_is_recognised_behind_what_else_the_user_says():
    for assignment, _, _ in requests(3, 300):
        for said in ("Thanks a lot!", "Hm, no.", "Where's the river? I count 3."):
            assert recognise(f"{said} {assignment.asked}") == (assignment.topic, assignment.constraints)


def test_by_hand_a_request_and_its_follow_ups():
    first = 'Explain sailing to a child. No commas, please. End with "The end."'
    messages = [ChatMessage("user", first)]
    wanted = (Constraint("no_commas"), Constraint("end_with", ("The end.",)))
    assert assignment_of(messages) == Assignment("sailing", wanted, first)
    messages += [ChatMessage("assistant", "One two three."), ChatMessage("user", "i see commas")]
    assert assignment_of(messages) == Assignment("sailing", wanted, first)
    messages += [ChatMessage("assistant", "One. Two."), ChatMessage("user", "Now shorter, please.")]
    found = assignment_of(messages)
    assert found is not None
    assert (found.constraints, found.before) == ((*wanted, Constraint("shorter")), "One. Two.")
    messages += [ChatMessage("assistant", "One."), ChatMessage("user", "Thanks! Now the same about penguins.")]
    found = assignment_of(messages)
    assert found is not None
    assert (found.topic, found.constraints, found.before) == ("penguins", wanted, "")


def test_a_follow_up_of_the_same_kind_replaces_the_value():
    messages = [
        ChatMessage("user", "Tell me about sailing. Give me 3 bullets. No commas, please."),
        ChatMessage("assistant", "- a\n- b\n- c"),
        ChatMessage("user", "Next version, please. Give me 5 bullets."),
    ]
    found = assignment_of(messages)
    assert found is not None
    assert found.constraints == (Constraint("no_commas"), Constraint("bullets", ("5",)))


def test_what_is_no_request_is_not_recognised():
    assert assignment_of([ChatMessage("user", "What is the capital of France?")]) is None
    assert assignment_of([ChatMessage("user", "Explain sailing to a child.")]) is None
    assert assignment_of([ChatMessage("user", "Now shorter, please.")]) is None
    assert assignment_of([]) is None


def test_no_complaint_or_thanks_is_taken_for_a_request():
    said = [*phrases("vague"), *phrases("unfinished"), *phrases("degenerate"), *phrases("thanks"), *phrases("bridges")]
    said += [text.format(topic=topic) for text in phrases("off_topic") for topic in topics()]
    for chapter in chapters().values():
        for part in PARTS:
            for values in chapter.values[part]:
                said += [chapter.fill(text, values) for text in chapter.complaints]
                told = [chapter.fill(text, values) for text in chapter.instructions[part]]
                if not KINDS[chapter.kind].relative:
                    said += [way.format(instruction=text) for way in phrases("rephrase") for text in told]
    assert len(said) > 4000
    assert [text for text in said if recognise(text) is not None] == []


def test_the_parts_share_no_topic_value_or_phrasing():
    assert len(topics()) >= 200
    assert sum(len(asks(part)) for part in PARTS) >= 40
    assert len(KINDS) >= 30
    for i, part in enumerate(PARTS):
        assert len(topics_of(part)) >= 15
        for other in PARTS[i + 1 :]:
            assert not set(topics_of(part)) & set(topics_of(other))
            assert not set(asks(part)) & set(asks(other))
            for name in ("change", "switch"):
                assert not set(follow_ups(name, part)) & set(follow_ups(name, other))
            for chapter in chapters().values():
                assert not set(chapter.instructions[part]) & set(chapter.instructions[other])
    for chapter in chapters().values():
        if chapter.slots:
            assert not set(chapter.values["logs"]) & set(chapter.values["test"])


def test_every_kind_has_a_checker_a_chapter_and_twelve_complaints():
    assert set(chapters()) == set(KINDS)
    for chapter in chapters().values():
        assert len(set(chapter.complaints)) >= 12, chapter.kind
        assert all(len(value) == len(chapter.slots) for part in PARTS for value in chapter.values[part])
    for name in ("vague", "unfinished", "off_topic", "degenerate", "rephrase", "thanks"):
        assert len(set(phrases(name))) >= 12


def test_every_topic_has_words_that_show_it():
    assert all(len(set(words)) >= 6 for words in topics().values())
    assert all(word == word.lower() and " " not in word for words in topics().values() for word in words)


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        (Constraint("lower_case"), Constraint("upper_case"), False),
        (Constraint("max_words", ("30",)), Constraint("min_words", ("60",)), False),
        (Constraint("comma_list", ("4",)), Constraint("no_commas"), False),
        (Constraint("json_object", ("a", "b")), Constraint("end_question"), False),
        (Constraint("avoid_word", ("very",)), Constraint("end_with", ("The very end.",)), False),
        (Constraint("avoid_letter", ("k",)), Constraint("foreign_word", ("German", "thank you")), False),
        (Constraint("avoid_letter", ("q",)), Constraint("foreign_word", ("German", "thank you")), True),
        (Constraint("bullets", ("3",)), Constraint("end_with", ("The end.",)), True),
        (Constraint("sentences", ("3",)), Constraint("lower_case"), True),
        (Constraint("one_line"), Constraint("bullets", ("3",)), False),
    ],
)
def test_only_what_one_reply_can_keep_stands_together(one, other, fits):
    assert compatible((one, other), "sailing") == fits
    assert compatible((other, one), "sailing") == fits


def test_a_topic_that_cannot_do_without_a_letter_is_not_combined_with_it():
    assert not compatible((Constraint("avoid_letter", ("z",)),), "jazz")
    assert compatible((Constraint("avoid_letter", ("z",)),), "sailing")


def test_careless_users_change_letters_but_not_what_they_ask_for():
    rng = random.Random(4)
    text = 'Explain sailing to a child. Include the word lantern. End with "The end."'
    typed = {written(rng, text, 1.0, "sailing lantern The end.") for _ in range(50)}
    assert len(typed) >= 5
    assert all("sailing" in each and "lantern" in each and each == each.lower() for each in typed)
    assert all(each.endswith("the end") for each in typed)
    assert written(rng, text, 0.0) == text
