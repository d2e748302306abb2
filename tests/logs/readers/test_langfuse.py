"""Langfuse where no model call was traced: the texts of traces and of the spans that `@observe` writes."""

from pathlib import Path

import orjson
import pytest

from drift.logs.ingest import IngestSummary, ingest
from drift.records import Conversation, Rating, Reason
from drift.store import Store

Q, A = "What is 2+2?", "5"


def read(tmp_path: Path, rows: list, name: str = "log.jsonl") -> tuple[IngestSummary, list[Conversation]]:
    log, store = tmp_path / name, Store(tmp_path / "store")
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = ingest([log], store)
    assert summary.adds_up
    return summary, sorted(store.conversations(), key=lambda c: c.messages[0].content)


def texts(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def observation(name, kind="SPAN", request=Q, reply=A, trace="t1", **more):
    started = "2025-01-01T00:00:00Z"
    return {"id": name, "traceId": trace, "type": kind, "startTime": started, "input": request, "output": reply, **more}


def trace(name="t1", request=Q, reply=A, **more):
    return {
        "id": name, "timestamp": "2025-01-01T00:00:00Z", "name": "chat", "sessionId": f"s-{name}", "userId": "u",
        "public": False, "input": request, "output": reply, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    "request_text",
    [
        Q,
        {"args": [], "kwargs": {"message": Q}},
        {"args": [Q], "kwargs": {}},
        {"args": [[{"role": "user", "content": Q}]], "kwargs": {"temperature": 1}},
        {"messages": [{"role": "user", "content": Q}]},
        {"question": Q, "top_k": 3},
        [{"role": "user", "content": Q}],
        orjson.dumps({"kwargs": {"query": Q}, "args": []}).decode(),
    ],
)
def test_an_observed_function_is_a_chat_whatever_it_was_called_with(tmp_path, request_text):
    score = {"traceId": "t1", "name": "user-feedback", "dataType": "NUMERIC", "value": 0, "source": "API"}
    reply = {"role": "assistant", "content": A} if isinstance(request_text, dict) else A
    _, (only,) = read(tmp_path, [observation("o1", request=request_text, reply=reply), score])
    assert texts(only) == [("user", Q), ("assistant", A)]
    assert only.ratings == (Rating(1, "thumb", -1.0),)


def test_a_trace_with_a_model_call_is_read_by_that_call_alone(tmp_path):
    call = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Context: none. {Q}"}]
    rows = [
        trace(),
        observation("o1"),
        observation("o2", "GENERATION", call, A, parentObservationId="o1"),
        trace("t2", "Other?", "Yes."),
    ]
    summary, (first, other) = read(tmp_path, rows)
    assert texts(first)[1:] == [("user", f"Context: none. {Q}"), ("assistant", A)]
    assert texts(other) == [("user", "Other?"), ("assistant", "Yes.")]
    assert other.user_key is not None
    assert summary.filtered_by == {Reason.NOT_A_CHAT: 2}


def test_of_several_spans_of_a_trace_the_outermost_counts(tmp_path):
    inner = observation("o2", request="search 2+2", reply="a result", parentObservationId="o1")
    _, (only,) = read(tmp_path, [inner, observation("o1")])
    assert texts(only) == [("user", Q), ("assistant", A)]
    (tmp_path / "with").mkdir()
    _, (only,) = read(tmp_path / "with", [inner, observation("o1"), trace(request="The user's own words")])
    assert texts(only)[0] == ("user", "The user's own words")


def test_a_downloaded_trace_whose_calls_have_no_texts_keeps_their_model(tmp_path):
    empty = {**observation("o1", "GENERATION", None, None), "model": "gpt-4o", "metadata": "{}"}
    whole = {"trace": trace(request={"messages": [{"role": "user", "content": Q}]}), "observations": [empty]}
    summary, (only,) = read(tmp_path, [whole])
    assert (texts(only), only.model) == ([("user", Q), ("assistant", A)], "gpt-4o")
    assert (summary.quarantined, summary.filtered_by) == ({}, {Reason.NOT_A_CHAT: 1})


def test_traces_without_texts_are_named(tmp_path):
    summary, found = read(tmp_path, [trace(request=None, reply=None), trace("t2", reply={"documents": 3})])
    assert (found, summary.filtered_by) == ([], {Reason.NOT_A_CHAT: 2})


def test_calls_of_one_session_that_hold_only_texts_are_one_conversation(tmp_path):
    rows = [
        {**trace("t1"), "sessionId": "s"},
        {**trace("t2", "That is wrong.", "4"), "sessionId": "s", "timestamp": "2025-01-01T00:01:00Z"},
    ]
    _, (only,) = read(tmp_path, rows)
    assert [text for _, text in texts(only)] == [Q, A, "That is wrong.", "4"]


def test_the_table_of_the_user_interface_is_read(tmp_path):
    log = tmp_path / "traces.csv"
    log.write_text(
        '"timestamp","name","userId","input","output","sessionId"\n"2025-01-01","chat","u","What is 2+2?","5","s"\n'
    )
    store = Store(tmp_path / "store")
    assert ingest([log], store).formats == {"langfuse": 1}
    (only,) = store.conversations()
    assert (texts(only), only.user_key is not None) == ([("user", Q), ("assistant", A)], True)
    assert only.started_at == "2025-01-01T00:00:00+00:00"


@pytest.mark.parametrize("answer", ['{"a": 1}', "[]", "[1, 2]", '{"words": ["eagle", "moon"]}'])
def test_an_answer_that_is_itself_json_is_the_answer(tmp_path, answer):
    chat = [{"role": "user", "content": Q}]
    _, (found,) = read(tmp_path, [observation("g1", "GENERATION", chat, answer)])
    assert texts(found) == [("user", Q), ("assistant", answer)]


def test_an_apis_error_is_no_answer(tmp_path):
    chat = [{"role": "user", "content": Q}]
    _, (found,) = read(tmp_path, [observation("g1", "GENERATION", chat, '{"error": {"code": 429}}')])
    assert texts(found) == [("user", Q)]
