"""JSON that a user or a model wrote stays as it was written; JSON that an API or a tool wrote around it is read."""

import orjson
import pytest

ASKED = "Answer as JSON."


def text(value) -> str:
    return orjson.dumps(value).decode()


def langfuse(request, reply):
    return {"id": "o", "type": "GENERATION", "traceId": "t", "input": request, "output": reply}


def braintrust(request, reply):
    return {"id": "1", "root_span_id": "1", "span_attributes": {"type": "llm"}, "input": request, "output": reply}


def langsmith(request, reply):
    run = {"id": "r", "trace_id": "r", "run_type": "llm", "start_time": "2024-05-01T10:00:00"}
    return {**run, "inputs": {"messages": [{"role": "user", "content": request}]}, "outputs": {"output": reply}}


def openinference(request, reply):
    attributes = {"openinference.span.kind": "LLM", "input.value": request, "output.value": reply}
    return {"name": "x", "context": {"trace_id": "t", "span_id": "s"}, "attributes": attributes}


def litellm(request, reply):
    return {"id": "1", "call_type": "completion", "messages": [{"role": "user", "content": request}], "response": reply}


def beside(request, reply):
    return {"messages": [{"role": "user", "content": request}], "response": reply}


TOOLS = (langfuse, braintrust, langsmith, openinference, litellm, beside)
ANSWERS = (
    {"answer": "Paris", "confidence": 0.1}, {"text": "Paris", "score": 1}, {"result": "Paris"}, ["Paris", "Rome"],
    [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], {"choices": ["a", "b"], "best": 1},
    [{"name": "Ann", "content": "x"}, {"name": "Ben", "content": "y"}], {"message": "Hello.", "to": "Ann"},
)  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_model_answered_is_whole(read, tool, answer):
    assert read(tool(ASKED, text(answer))).texts() == [("user", ASKED), ("assistant", text(answer))]


@pytest.mark.parametrize("answer", ["{}", "[]"])
def test_an_empty_answer_is_an_answer_but_in_spend_logs(read, answer):
    assert read(langfuse(ASKED, answer)).texts() == [("user", ASKED), ("assistant", answer)]
    assert read(litellm(ASKED, answer)).texts() == [("user", ASKED)]


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_user_wrote_is_whole(read, tool):
    asked = text({"query": "SELECT 1", "note": "explain this json"})
    assert read(tool(asked, "One.")).texts() == [("user", asked), ("assistant", "One.")]


REPLY = {"role": "assistant", "content": "Paris"}


@pytest.mark.parametrize("reply", [
    REPLY, [REPLY], {"choices": [{"message": REPLY}]}, {"content": "Paris", "refusal": None}, {"message": REPLY},
    {"type": "ai", "content": "Paris"}, {"type": "message", "role": "assistant", "content": [{"type": "text", "text":
    "Paris"}]}, {"generations": [[{"text": "Paris"}]]}, [{"type": "text", "text": "Paris"}], {"messages": [REPLY]},
    {"candidates": [{"content": {"parts": [{"text": "Paris"}]}}]}, {"output": {"message": REPLY}},
    {"response": "Paris", "done": True}, {"completion": "Paris", "stop_reason": "stop_sequence"},
    {"object": "response", "output": [{"type": "message", "id": "m", "role": "assistant", "content": [{"type":
    "output_text", "text": "Paris"}]}]},
])  # fmt: skip
@pytest.mark.parametrize("tool", [langfuse, braintrust, openinference, beside])
def test_what_an_api_gave_back_as_text_is_read(read, tool, reply):
    assert read(tool(ASKED, text(reply))).texts() == [("user", ASKED), ("assistant", "Paris")]


@pytest.mark.parametrize("request_", [
    {"messages": [{"role": "user", "content": ASKED}]}, [{"role": "user", "content": ASKED}],
    {"prompt": ASKED, "model": "m"}, {"contents": [{"role": "user", "parts": [{"text": ASKED}]}]},
    {"input": [{"role": "user", "content": ASKED}]}, [{"type": "text", "text": ASKED}],
])  # fmt: skip
@pytest.mark.parametrize("tool", [langfuse, braintrust, openinference])
def test_what_an_api_was_sent_as_text_is_read(read, tool, request_):
    assert read(tool(text(request_), "Paris")).texts() == [("user", ASKED), ("assistant", "Paris")]


@pytest.mark.parametrize("reply", [{"choices": []}, {"error": {"message": "overloaded"}}, {"candidates": []}])
def test_a_call_that_gave_no_answer_has_no_reply(read, reply):
    assert read(langfuse(ASKED, text(reply))).texts() == [("user", ASKED)]


def test_the_parts_of_a_reply_are_one_reply(read):
    parts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    assert read(langfuse(ASKED, parts)).texts() == [("user", ASKED), ("assistant", "One.\nTwo.")]
