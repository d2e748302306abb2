"""Spans of Vercel's AI SDK: calls of models, runs around them, and what the application said about them."""

import orjson
import pytest

Q, A, NO, B = "Name a red fruit.", "Banana.", "That is not red.", "Cherry."
USER, WRONG, COMPLAINT = (
    {"role": role, "content": [{"type": "text", "text": text}]}
    for role, text in (("user", Q), ("assistant", A), ("user", NO))
)
CALL = {"type": "tool-call", "toolCallId": "c1", "toolName": "search", "input": {"q": "fruit"}}
ANSWER = {
    "type": "tool-result",
    "toolCallId": "c1",
    "toolName": "search",
    "output": {"type": "text", "value": "cherries"},
}


def span(name, attributes, trace="t1", number="1") -> dict:
    attributes = {"ai.operationId": name, "operation.name": name, "ai.model.id": "m-1", **attributes}
    context = {"trace_id": trace, "span_id": f"{trace}-{number}"}
    return {"name": name, "context": context, "start_time": f"2025-01-01T00:00:0{number}Z", "attributes": attributes}


def call(messages, text=None, trace="t1", number="1", **more) -> dict:
    given = {"ai.prompt.messages": orjson.dumps(messages).decode(), "gen_ai.system": "openai"}
    return span("ai.generateText.doGenerate", {**given, "ai.response.text": text, **more}, trace, number)


def run(prompt, text, **more) -> dict:
    return span("ai.generateText", {"ai.prompt": orjson.dumps(prompt).decode(), "ai.response.text": text, **more})


def test_a_call_with_its_user_and_session(read):
    told = read(
        call(
            [{"role": "system", "content": "Be brief."}, USER, WRONG, COMPLAINT],
            B,
            **{
                "ai.telemetry.metadata.userId": "ann",
                "ai.telemetry.metadata.sessionId": "s1",
                "ai.response.model": "m-2",
            },
        )
    )
    assert told.formats == ["otel"]
    assert told.texts() == [("system", "Be brief."), ("user", Q), ("assistant", A), ("user", NO), ("assistant", B)]
    assert (told.only.user_key, told.only.model, told.only.started_at) == ("ann", "m-2", "2025-01-01T00:00:01+00:00")
    assert str(told.only.source_id).startswith("s1/")


def test_two_calls_of_one_chat_are_one_conversation(read):
    told = read(call([USER], A), call([USER, WRONG, COMPLAINT], B, "t2", "2"))
    assert [text for _, text in told.texts()] == [Q, A, NO, B]


def test_a_run_that_repeats_its_calls_is_no_other_conversation(read):
    asked = {"system": "Be brief.", "prompt": Q}
    tools = [orjson.dumps({"type": "function", "name": "search", "inputSchema": {"type": "object"}}).decode()]
    called = [{"toolCallType": "function", "toolCallId": "c1", "toolName": "search", "input": '{"q": "fruit"}'}]
    first = call([USER], **{"ai.response.toolCalls": orjson.dumps(called).decode(), "ai.prompt.tools": tools})
    second = call(
        [USER, {"role": "assistant", "content": [CALL]}, {"role": "tool", "content": [ANSWER]}], B, number="2",
        **{"ai.response.reasoning": "hm", "ai.prompt.tools": tools},
    )  # fmt: skip
    tool = span("ai.toolCall", {"ai.toolCall.name": "search", "ai.toolCall.args": "{}"}, number="3")
    told = read(first, second, tool, run(asked, B))
    assert [message.role for message in told.only.messages] == ["user", "assistant", "tool", "assistant"]
    asked_for = told.only.messages[1].tool_calls[0]
    assert (asked_for.function.name, orjson.loads(asked_for.function.arguments)) == ("search", {"q": "fruit"})
    assert told.only.messages[3].reasoning == "hm"
    assert orjson.loads(told.only.tools or "")[0]["function"]["name"] == "search"


@pytest.mark.parametrize(
    "prompt", [{"prompt": Q}, {"messages": [USER]}, {"messages": [{"role": "user", "content": Q}]}]
)
def test_a_run_without_its_calls_is_read(read, prompt):
    told = read(run({"system": "Be brief.", **prompt}, A))
    assert told.texts() == [("system", "Be brief."), ("user", Q), ("assistant", A)]


@pytest.mark.parametrize("messages", ["", "[]", "null", "5", "{", "[5]", '[{"role": "critic", "content": "x"}]'])
def test_bad_prompts_have_a_named_outcome(read, messages):
    told = read(span("ai.generateText.doGenerate", {"ai.prompt.messages": messages, "ai.response.text": A}))
    assert told.conversations == []
    assert len(told.rejects) == 1
