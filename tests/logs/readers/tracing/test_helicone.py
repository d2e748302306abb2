"""Helicone: requests with their bodies, sessions and users from headers, thumbs and scores."""

import orjson
import pytest

from chats import WRONG, A, B, Q, bot, user
from drift.records import Rating


def request(messages, reply, name="r1", **more):
    return {
        "request_id": name, "request_created_at": "2025-01-01T00:00:00Z", "request_user_id": "ann",
        "request_body": {"model": "gpt-4o", "messages": messages},
        "response_body": {"choices": [{"message": reply}]}, "properties": {"Helicone-Session-Id": "s1"}, **more,
    }  # fmt: skip


@pytest.mark.parametrize("as_text", [True, False])
def test_a_request_with_its_user_session_time_and_model(read, as_text):
    row = request([user(Q)], bot(A))
    if as_text:
        row |= {key: orjson.dumps(row[key]).decode() for key in ("request_body", "response_body", "properties")}
    told = read(row)
    assert (told.formats, told.texts()) == (["helicone"], [("user", Q), ("assistant", A)])
    only = told.only
    assert (only.model, only.user_key, only.started_at) == ("gpt-4o", "ann", "2025-01-01T00:00:00+00:00")
    assert only.source_id.startswith("s1/")


def test_requests_of_a_session_are_stitched(read):
    told = read(
        request([user(Q)], bot(A), "r1"),
        request([user(Q), bot(A), user(WRONG)], bot(B), "r2", request_created_at="2025-01-01T00:01:00Z"),
    )
    assert [text for _, text in told.texts()] == [Q, A, WRONG, B]


@pytest.mark.parametrize(
    ("more", "ratings"),
    [
        ({"scores": {"helicone-score-feedback": 0}}, [Rating(1, "thumb", -1.0)]),
        ({"scores": {"helicone-score-feedback": {"value": 1, "valueType": "boolean"}}}, [Rating(1, "thumb", 1.0)]),
        ({"feedback_rating": False, "scores": {"helicone-score-feedback": 0}}, [Rating(1, "thumb", -1.0)]),
        ({"feedback_rating": True}, [Rating(1, "thumb", 1.0)]),
        ({"feedback": {"rating": False, "comment": "no"}}, [Rating(1, "thumb", -1.0, "no")]),
        ({"scores": {"accuracy": 1}}, [Rating(1, "score", 1.0)]),
        ({"scores": None, "feedback_rating": None}, []),
    ],
)
def test_thumbs_and_scores_are_ratings(read, more, ratings):
    assert list(read(request([user(Q)], bot(A), **more)).only.ratings) == ratings


@pytest.mark.parametrize(
    ("request_body", "response_body", "texts"),
    [
        (
            {"model": "claude", "system": "Be brief.", "messages": [user(Q)]},
            {"type": "message", "role": "assistant", "content": [{"type": "text", "text": A}]},
            [("system", "Be brief."), ("user", Q), ("assistant", A)],
        ),
        (
            {"contents": [{"role": "user", "parts": [{"text": Q}]}]},
            {"candidates": [{"content": {"role": "model", "parts": [{"text": A}]}}]},
            [("user", Q), ("assistant", A)],
        ),
        (
            {"messages": [user(Q)], "stream": True},
            {"streamed_data": [{"choices": [{"delta": {"content": "5"}}]}, {"choices": [{"delta": {}}]}]},
            [("user", Q), ("assistant", A)],
        ),
        ({"messages": [user(Q)]}, {"error": {"message": "rate limit"}}, [("user", Q)]),
    ],
)
def test_bodies_of_other_providers_and_streams(read, request_body, response_body, texts):
    told = read(request([], None, request_body=request_body, response_body=response_body))
    assert (told.formats, told.texts()) == (["helicone"], texts)


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        ({"request_id": "r", "signed_body_url": "https://x"}, ["no_messages"]),
        (request([], None, request_body=None, response_body=None), ["no_messages"]),
        (request(5, bot(A)), ["no_messages"]),
        (request([{"role": "alien", "content": Q}], bot(A)), ["unknown_role"]),
        (request([user(Q)], bot(A), request_body={"input": [0.1]}, response_body={"data": []}), ["no_messages"]),
        (request([user(Q)], bot(A), properties=7, scores=[1], request_body=[]), ["no_messages"]),
    ],
)
def test_requests_without_a_chat_are_named(read, row, reasons):
    told = read(row, format_name="helicone")
    assert (told.conversations, told.reasons) == ([], reasons)
