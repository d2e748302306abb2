"""Braintrust: model calls, roots of traces, scores and expected replies."""

import pytest

from chats import WRONG, A, B, Q, bot, user
from drift.records import Rating


def span(given, reply, name="1", root="1", kind="llm", **more):
    output = [{"message": reply, "finish_reason": "stop"}] if isinstance(reply, dict) else reply
    parents = [] if name == root else [root]
    return {
        "id": name, "span_id": name, "root_span_id": root, "span_parents": parents, "created": "2025-01-01T00:00:00Z",
        "input": given, "output": output, "metadata": {"model": "gpt-4o", "session_id": "s1", "user_id": "ann"},
        "span_attributes": {"type": kind, "name": "Chat Completion"}, **more,
    }  # fmt: skip


def test_a_model_call_with_its_user_session_time_and_model(read):
    told = read(span([user(Q)], bot(A)))
    assert (told.formats, told.texts()) == (["braintrust"], [("user", Q), ("assistant", A)])
    only = told.only
    assert (only.model, only.user_key, only.started_at) == ("gpt-4o", "ann", "2025-01-01T00:00:00+00:00")
    assert only.source_id.startswith("s1/")


def test_calls_of_a_session_are_stitched(read):
    told = read(
        span([user(Q)], bot(A), "1", "1"),
        span([user(Q), bot(A), user(WRONG)], bot(B), "2", "2", metrics={"start": 1735689700.0}),
    )
    assert [text for _, text in told.texts()] == [Q, A, WRONG, B]


@pytest.mark.parametrize(
    ("scores", "ratings"),
    [
        ({"user_feedback": 0}, [Rating(1, "thumb", -1.0)]),
        ({"user_feedback": 1}, [Rating(1, "thumb", 1.0)]),
        ({"Factuality": 0.25}, [Rating(1, "score", -0.5)]),
        ({"user_feedback": None}, []),
        (None, []),
    ],
)
def test_scores_are_ratings(read, scores, ratings):
    assert list(read(span([user(Q)], bot(A), scores=scores)).only.ratings) == ratings


def test_scores_on_the_root_judge_the_call_inside(read):
    root = span({"question": "the user's words"}, A, "r", "r", kind="task", scores={"user_feedback": 0})
    told = read({**root, "metadata": {"comment": "It is 4."}}, span([user(Q)], bot(A), "c", "r"))
    assert told.texts() == [("user", Q), ("assistant", A)]
    assert told.only.ratings == (Rating(1, "thumb", -1.0, "It is 4."),)


def test_a_root_is_read_if_its_trace_has_no_call(read):
    told = read(span({"question": Q}, A, "r", "r", kind="task", scores={"user_feedback": 0}))
    assert told.texts() == [("user", Q), ("assistant", A)]
    assert told.only.ratings == (Rating(1, "thumb", -1.0),)


@pytest.mark.parametrize(
    ("expected", "ratings"),
    [
        ("4", [Rating(1, "correction", -1.0, preferred="4")]),
        (bot("4"), [Rating(1, "correction", -1.0, preferred="4")]),
        (A, []),
        (None, []),
    ],
)
def test_what_was_expected_instead_is_a_correction(read, expected, ratings):
    assert list(read(span([user(Q)], bot(A), expected=expected)).only.ratings) == ratings


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (span(None, None, kind="task"), ["not_a_chat"]),
        (span("retrieve", ["document"], kind="function"), ["not_a_chat"]),
        (span(None, None), ["no_messages"]),
        (span([], []), ["no_messages"]),
        (span(5, bot(A)), ["no_messages"]),
        (span([{"role": "alien", "content": Q}], bot(A)), ["unknown_role"]),
        ({"root_span_id": None, "input": 5, "scores": 7, "metadata": 7, "metrics": 7, "expected": []}, ["not_a_chat"]),
    ],
)
def test_spans_without_a_chat_are_named(read, row, reasons):
    told = read(row, format_name="braintrust")
    assert (told.conversations, told.reasons) == ([], reasons)
