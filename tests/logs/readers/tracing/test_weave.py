"""Weave: calls of models and of functions around them, reactions, notes and annotations."""

import pytest

from chats import WRONG, A, B, Q, bot, user
from drift.records import Rating


def call(messages, reply, name="c1", op="openai.chat.completions.create", trace="t1", feedback=(), **more):
    output = {"object": "chat.completion", "model": "gpt-4o-mini", "choices": [{"index": 0, "message": reply}]}
    return {
        "id": name, "project_id": "e/p", "op_name": f"weave:///e/p/op/{op}:v1", "trace_id": trace, "parent_id": None,
        "started_at": "2025-01-01T00:00:00Z", "inputs": {"self": "x", "model": "gpt-4o", "messages": messages},
        "output": output, "summary": {"weave": {"feedback": list(feedback)}}, **more,
    }  # fmt: skip


def reaction(emoji, **more):
    return {"feedback_type": "wandb.reaction.1", "payload": {"emoji": emoji, **more}}


NOTE = {"feedback_type": "wandb.note.1", "payload": {"note": "It is 4."}}


def test_a_call_of_a_model_with_its_time_and_model(read):
    told = read(call([user(Q)], bot(A), attributes={"session_id": "s1", "user_id": "ann"}))
    assert (told.formats, told.texts()) == (["weave"], [("user", Q), ("assistant", A)])
    only = told.only
    assert (only.model, only.user_key, only.started_at) == ("gpt-4o-mini", "ann", "2025-01-01T00:00:00+00:00")
    assert only.source_id.startswith("s1/")


def test_calls_of_a_thread_are_stitched(read):
    told = read(
        call([user(Q)], bot(A), "c1", thread_id="th"),
        call([user(Q), bot(A), user(WRONG)], bot(B), "c2", trace="t2", thread_id="th"),
    )
    assert [text for _, text in told.texts()] == [Q, A, WRONG, B]


@pytest.mark.parametrize(
    ("feedback", "ratings"),
    [
        ([reaction("👎")], [Rating(1, "thumb", -1.0)]),
        ([reaction("👎🏽", detoned="👎")], [Rating(1, "thumb", -1.0)]),
        ([reaction("👍🏿")], [Rating(1, "thumb", 1.0)]),
        ([{"feedback_type": "wandb.reaction.1", "payload": {"alias": ":thumbs_down:"}}], [Rating(1, "thumb", -1.0)]),
        ([NOTE, reaction("👎")], [Rating(1, "thumb", -1.0, "It is 4.")]),
        ([{"feedback_type": "wandb.annotation.correct", "payload": {"value": False}}], [Rating(1, "score", -1.0)]),
        ([{"feedback_type": "user feedback", "payload": {"value": 0}}], [Rating(1, "thumb", -1.0)]),
    ],
)
def test_feedback_is_a_rating(read, feedback, ratings):
    told = read(call([user(Q)], bot(A), feedback=feedback))
    assert list(told.only.ratings) == ratings
    assert set(told.reasons) == {"joined_as_evidence"}


@pytest.mark.parametrize("feedback", [[NOTE], [reaction("🤔")], [{"feedback_type": "wandb.reaction.1"}]])
def test_feedback_without_a_verdict_is_named(read, feedback):
    told = read(call([user(Q)], bot(A), feedback=feedback))
    assert (told.only.ratings, told.reasons) == ((), ["no_verdict"])


def test_feedback_in_rows_of_its_own_and_on_the_function_around_a_call(read):
    outer = call([], None, "c0", op="answer", inputs={"question": "other words"}, output="5")
    row = {**reaction("👎"), "weave_ref": "weave:///e/p/call/c0", "created_at": "2025-01-01"}
    told = read(outer, call([user(Q)], bot(A), "c1", parent_id="c0"), row)
    assert told.texts() == [("user", Q), ("assistant", A)]
    assert told.only.ratings == (Rating(1, "thumb", -1.0),)
    assert sorted(told.reasons) == ["joined_as_evidence", "not_a_chat"]


def test_a_function_is_read_if_its_trace_has_no_model_call(read):
    told = read(call([], None, op="answer", inputs={"question": Q}, output=A))
    assert told.texts() == [("user", Q), ("assistant", A)]


@pytest.mark.parametrize(
    ("more", "texts"),
    [
        (
            {"op": "anthropic.Messages.create", "inputs": {"system": "Be brief.", "messages": [user(Q)]},
             "output": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": A}]}},
            [("system", "Be brief."), ("user", Q), ("assistant", A)],
        ),
        (
            {"op": "google.genai.models.Models.generate_content", "inputs": {"contents": Q, "model": "g"},
             "output": {"candidates": [{"content": {"role": "model", "parts": [{"text": A}]}}]}},
            [("user", Q), ("assistant", A)],
        ),
        (
            {"op": "openai.responses.create", "inputs": {"input": Q, "instructions": "Be brief."},
             "output": {"output": [{"type": "message", "id": "m", "role": "assistant",
                                    "content": [{"type": "output_text", "text": A}]}]}},
            [("system", "Be brief."), ("user", Q), ("assistant", A)],
        ),
    ],
)  # fmt: skip
def test_calls_of_other_providers(read, more, texts):
    told = read({**call([], None, op=more.pop("op")), **more})
    assert (told.formats, told.texts()) == (["weave"], texts)


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (call([], None), ["not_a_chat"]),
        (call([user(Q)], bot(A), inputs=None), ["not_a_chat"]),
        (call([user(Q)], bot(A), op="embed", output=[0.1]), ["not_a_chat"]),
        (call(5, bot(A)), ["no_messages"]),
        (call([{"role": "alien", "content": Q}], bot(A)), ["unknown_role"]),
    ],
)
def test_calls_without_a_chat_are_named(read, row, reasons):
    told = read(row, format_name="weave")
    assert (told.conversations, told.reasons) == ([], reasons)
