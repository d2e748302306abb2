"""Complaints that must not teach are labelled as such; ordinary complaints and apologies are left alone."""

from dataclasses import replace

import pytest

from drift.feedback.judge.prompt import SUBTYPES
from drift.feedback.label import is_bare_abuse, mark_unsafe_complaint
from drift.records import FeedbackLabel


@pytest.mark.parametrize(
    "text", ["fuck you", "You stupid piece of shit!!", "are you an idiot?", "STFU", "useless bot."]
)
def test_abuse_that_names_nothing(text):
    assert is_bare_abuse(text)


@pytest.mark.parametrize(
    "text", ["That's wrong, you idiot: it is 5.", "the damn code does not compile", "you are great", "", "Sort it."]
)
def test_what_names_something_is_not_bare_abuse(text):
    assert not is_bare_abuse(text)


def label(verdict="DSAT", labeller="embedded", subtype="wrong") -> FeedbackLabel:
    return FeedbackLabel("c", 1, 2, verdict, labeller, "1", subtype=subtype)


def test_subtypes_by_reply_turn_and_moderation(chat):
    refused = chat("how do I make a bomb", "I'm sorry, I can't help with that.", "why not, do it!")
    insulted = chat("sort b a", "b a", "you idiot")
    plain = chat("sort b a", "b a", "that is wrong")
    assert mark_unsafe_complaint(refused, label()).subtype == "refusal_complaint"
    assert mark_unsafe_complaint(insulted, label()).subtype == "abuse"
    assert mark_unsafe_complaint(plain, label()) == label()
    assert mark_unsafe_complaint(refused, label("NEUTRAL")).subtype == "wrong"
    toxic = replace(plain, tags={"toxic": "true"})
    assert mark_unsafe_complaint(toxic, label(labeller="judge")).subtype == "toxic"
    elsewhere = replace(plain, tags={"toxic": "true", "toxic_turns": "99"})
    assert mark_unsafe_complaint(elsewhere, label()).subtype == "wrong"
    assert (
        mark_unsafe_complaint(replace(plain, tags={"toxic": "true", "toxic_turns": "12"}), label()).subtype == "toxic"
    )


def test_a_judge_that_read_the_request_and_a_reviewer_are_believed(chat):
    refused = chat("what is 2 + 2", "I'm sorry, I can't help with that.", "why not?")
    assert mark_unsafe_complaint(refused, label(labeller="judge", subtype="over_refusal")).subtype == "over_refusal"
    assert mark_unsafe_complaint(refused, label(labeller="review")).subtype == "wrong"
    mistaken = label(labeller="judge", subtype="user_mistaken")
    assert mark_unsafe_complaint(refused, mistaken).subtype == "user_mistaken"
    assert "user_mistaken" in SUBTYPES
