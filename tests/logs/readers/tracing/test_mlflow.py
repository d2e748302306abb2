"""MLflow: model calls of a trace, traces without one, assessments, and the shapes of older versions and tables."""

import orjson
import pytest

from chats import WRONG, A, B, Q, bot, user
from drift.records import Rating


def span(messages, reply, kind="CHAT_MODEL", name="s1", parent=None, **more):
    outputs = {"object": "chat.completion", "model": "gpt-4o-mini", "choices": [{"index": 0, "message": reply}]}
    return {
        "trace_id": "x", "span_id": name, "parent_id": parent, "name": "call",
        "attributes": {
            "mlflow.spanType": orjson.dumps(kind).decode(),
            "mlflow.spanInputs": orjson.dumps({"messages": messages, **more}).decode(),
            "mlflow.spanOutputs": orjson.dumps(outputs).decode(),
        },
    }  # fmt: skip


def trace(*spans, name="tr-1", **info):
    about = {"mlflow.trace.user": "ann", "mlflow.trace.session": "s1"}
    return {
        "info": {"trace_id": name, "request_time": "2025-01-01T00:00:00Z", "trace_metadata": about, **info},
        "data": {"spans": list(spans)},
    }


def assessment(value, name="user_feedback", by="HUMAN", **more):
    return {"assessment_name": name, "source": {"source_type": by}, "feedback": {"value": value}, **more}


def test_a_model_call_with_its_user_session_time_and_model(read):
    told = read(trace(span([user(Q)], bot(A))))
    assert (told.formats, told.texts()) == (["mlflow"], [("user", Q), ("assistant", A)])
    only = told.only
    assert (only.user_key, only.model, only.started_at) == ("ann", "gpt-4o-mini", "2025-01-01T00:00:00+00:00")
    assert only.source_id.startswith("s1/")


def test_calls_of_one_session_are_stitched(read):
    told = read(
        trace(span([user(Q)], bot(A)), name="tr-1", assessments=[assessment(False, rationale="It is 4.")]),
        trace(span([user(Q), bot(A), user(WRONG)], bot(B)), name="tr-2", request_time="2025-01-01T00:01:00Z"),
    )
    assert [text for _, text in told.texts()] == [Q, A, WRONG, B]
    assert told.only.ratings == (Rating(1, "thumb", -1.0, "It is 4."),)
    assert told.reasons == ["joined_as_evidence"]


@pytest.mark.parametrize(
    ("given", "rating"),
    [
        (assessment(True), Rating(1, "thumb", 1.0)),
        (assessment("no"), Rating(1, "thumb", -1.0)),
        (assessment("no", "relevance", "LLM_JUDGE"), Rating(1, "score", -1.0)),
        (assessment(True, by="CODE"), Rating(1, "score", 1.0)),
        (assessment(False, span_id="s1"), Rating(1, "thumb", -1.0)),
        (
            {"name": "expected_response", "expectation": {"value": "4"}},
            Rating(1, "correction", -1.0, preferred="4"),
        ),
    ],
)
def test_assessments_are_ratings(read, given, rating):
    told = read(trace(span([user(Q)], bot(A)), assessments=[given]))
    assert told.only.ratings == (rating,)


def test_an_assessment_that_was_replaced_does_not_count(read):
    told = read(trace(span([user(Q)], bot(A)), assessments=[assessment(False, valid=False), assessment(True)]))
    assert told.only.ratings == (Rating(1, "thumb", 1.0),)


def test_a_fact_that_was_expected_is_no_correction(read):
    told = read(
        trace(span([user(Q)], bot(A)), assessments=[{"name": "expected_facts", "expectation": {"value": ["4"]}}])
    )
    assert (told.only.ratings, told.reasons) == ((), ["no_verdict"])


def test_steps_around_a_call_are_left_out(read):
    told = read(
        trace(
            span([user("Answer: " + Q)], bot("x"), kind="CHAIN", name="root"),
            span([user(Q)], bot(A), name="s1", parent="root"),
            span([user("search")], bot("y"), kind="TOOL", name="s2", parent="root"),
        )
    )
    assert told.texts() == [("user", Q), ("assistant", A)]


def test_a_trace_without_a_model_call_is_read_by_its_root(read):
    inner = span([user("inner")], bot("y"), kind="TOOL", name="s2", parent="root")
    told = read(trace(inner, span([user(Q)], bot(A), kind="CHAIN", name="root")))
    assert told.texts() == [("user", Q), ("assistant", A)]


def test_a_trace_of_version_2(read):
    row = {
        "info": {
            "request_id": "r1", "timestamp_ms": 1735689600000, "status": "OK",
            "request_metadata": {"mlflow.user": "dev"},
            "tags": [{"key": "mlflow.trace.session", "value": "s1"}, {"key": "mlflow.trace.user", "value": "ann"}],
        },
        "data": {
            "request": '{"question": "What is 2+2?"}', "response": '"5"',
            "spans": [{
                "name": "llm", "context": {"trace_id": "x", "span_id": "y"}, "parent_id": None, "span_type": "LLM",
                "inputs": {"prompt": Q}, "outputs": {"text": A}, "attributes": {},
            }],
        },
    }  # fmt: skip
    told = read(row)
    assert (told.formats, told.texts(), told.only.user_key) == (["mlflow"], [("user", Q), ("assistant", A)], "ann")
    assert told.only.started_at == "2025-01-01T00:00:00+00:00"


@pytest.mark.parametrize("as_text", [True, False])
def test_a_row_of_search_traces(read, as_text):
    spans = [span([user(Q)], bot(A))]
    row = {
        "trace_id": "tr-1", "state": "OK", "request_time": "2025-01-01T00:00:00Z", "request": "q", "response": "a",
        "trace_metadata": {"mlflow.trace.user": "ann"}, "tags": {}, "assessments": [assessment(False)],
        "spans": orjson.dumps(spans).decode() if as_text else spans,
    }  # fmt: skip
    told = read(row)
    assert (told.formats, told.texts(), told.only.user_key) == (["mlflow"], [("user", Q), ("assistant", A)], "ann")
    assert [rating.value for rating in told.only.ratings] == [-1.0]


def test_tools_and_calls_are_kept(read):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":2}'}}
    messages = [
        user(Q), {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]  # fmt: skip
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    told = read(trace(span(messages, bot(B), tools=tools)))
    assert [message.role for message in told.only.messages] == ["user", "assistant", "tool", "assistant"]
    assert told.only.messages[1].tool_calls[0].function.name == "add"
    assert orjson.loads(told.only.tools) == tools


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (trace(), ["not_a_chat"]),
        (trace(span([], bot(A))), ["no_messages"]),
        (trace(span([user(Q)], bot(A), kind="EMBEDDING", parent="gone")), ["not_a_chat"]),
        ({"info": {}, "data": {"spans": None}}, ["not_a_chat"]),
        (
            {"info": {"assessments": [5, None, {"feedback": None}]}, "data": {"spans": [7]}},
            ["not_a_chat", "no_verdict"],
        ),
        (trace({"attributes": 5, "span_type": "LLM", "inputs": {"messages": 5}}), ["no_messages"]),
    ],
)
def test_traces_without_a_chat_are_named(read, row, reasons):
    told = read(row, format_name="mlflow")
    assert set(told.reasons) >= set(reasons)
    assert told.conversations == []
