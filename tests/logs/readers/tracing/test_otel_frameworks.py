"""OpenLLMetry, Pydantic AI and Logfire: what they add to OpenTelemetry's conventions."""

import orjson
import pytest

from chats import WRONG, A, B, Q, bot, user

CHAT = [("user", Q), ("assistant", A), ("user", WRONG), ("assistant", B)]
PROPERTIES = "traceloop.association.properties"


def span(name, attributes, trace=None):
    context = {"trace_id": trace or f"t{name}", "span_id": name}
    started = f"2025-01-01T00:0{name[-1]}:00Z"
    return {"name": "openai.chat", "context": context, "start_time": started, "attributes": attributes}


def indexed(request, reply, **more):
    """OpenLLMetry's attributes: one for each field of each message."""
    flat = {f"gen_ai.prompt.{n}.{key}": value for n, m in enumerate(request) for key, value in m.items()}
    flat |= {f"gen_ai.completion.0.{key}": value for key, value in reply.items()}
    return {"gen_ai.system": "openai", **flat, **more}


def test_association_properties_name_the_session_and_the_user(read):
    about = {f"{PROPERTIES}.session_id": "s1", f"{PROPERTIES}.user_id": "ann", "gen_ai.request.model": "gpt-4o"}
    told = read(
        span("1", indexed([user(Q)], bot(A), **about)),
        span("2", indexed([user(Q), bot(A), user(WRONG)], bot(B), **{f"{PROPERTIES}.session_id": "s1"})),
    )
    assert (told.formats, told.texts()) == (["otel"], CHAT)
    assert (told.only.user_key, told.only.model) == ("ann", "gpt-4o"), "the second call does not name them"
    assert told.only.source_id.startswith("s1/")


def test_tool_calls_answers_and_schemas_of_openllmetry(read):
    called = {"role": "assistant", "tool_calls.0.id": "c1", "tool_calls.0.name": "add",
              "tool_calls.0.arguments": '{"a": 2}'}  # fmt: skip
    answer = {"role": "tool", "tool_call_id": "c1", "content": "4"}
    tools = {"llm.request.functions.0.name": "add", "llm.request.functions.0.parameters": '{"type": "object"}'}
    parts = orjson.dumps([{"type": "text", "text": Q}, {"type": "image_url", "image_url": {"url": "x"}}]).decode()
    told = read(span("1", indexed([user(parts), called, answer], bot(B), **tools)))
    asked, call, result, reply = told.only.messages
    assert (asked.content, told.only.has_media(0)) == (f"{Q}\n[image]", True)
    assert [(c.id, c.function.name, c.function.arguments) for c in call.tool_calls] == [("c1", "add", '{"a": 2}')]
    assert (result.role, result.content, result.tool_call_id, reply.content) == ("tool", "4", "c1", B)
    function = {"name": "add", "parameters": {"type": "object"}}
    assert orjson.loads(told.only.tools) == [{"type": "function", "function": function}]


def test_a_reply_that_is_a_call(read):
    reply = {"role": "assistant", "tool_calls.0.id": "c1", "tool_calls.0.name": "add", "tool_calls.0.arguments": "{}"}
    told = read(span("1", indexed([user(Q)], reply)))
    assert told.only.messages[1].tool_calls[0].function.name == "add"


def test_calls_of_openinference_are_kept(read):
    prefix = "llm.output_messages.0.message"
    attributes = {
        "openinference.span.kind": "LLM", "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": Q, f"{prefix}.role": "assistant",
        f"{prefix}.tool_calls.0.tool_call.id": "c1", f"{prefix}.tool_calls.0.tool_call.function.name": "add",
        f"{prefix}.tool_calls.0.tool_call.function.arguments": '{"a": 2}',
        "llm.tools.0.tool.json_schema": '{"type": "function", "function": {"name": "add"}}',
    }  # fmt: skip
    told = read(span("1", attributes))
    (call,) = told.only.messages[1].tool_calls
    assert (told.formats, call.id, call.function.arguments) == (["openinference"], "c1", '{"a": 2}')
    assert orjson.loads(told.only.tools) == [{"type": "function", "function": {"name": "add"}}]


def workflow(name, kind, request, reply, trace):
    attributes = {
        "traceloop.span.kind": kind, "traceloop.entity.name": "chat",
        "traceloop.entity.input": orjson.dumps(request).decode(),
        "traceloop.entity.output": orjson.dumps(reply).decode(),
    }  # fmt: skip
    return span(name, attributes, trace)


def test_a_workflow_is_read_if_its_trace_has_no_model_call(read):
    outer = workflow("1", "workflow", {"args": [], "kwargs": {"question": Q}}, {"answer": A}, "t")
    inner = workflow("2", "task", {"args": ["search"], "kwargs": {}}, {"result": "found"}, "t")
    told = read(inner, outer)
    assert (told.formats, told.texts(), told.reasons) == (["otel"], CHAT[:2], ["not_a_chat"])
    told = read(outer, span("3", indexed([user("Context: none. " + Q)], bot(A)), "t"))
    assert told.texts()[0] == ("user", "Context: none. " + Q)


def event(kind, **fields):
    return {"event.name": f"gen_ai.{kind}", **fields}


EVENTS = [
    event("system.message", role="system", content="Be brief."), event("user.message", role="user", content=Q),
    event("assistant.message", role="assistant", content=A), event("user.message", role="user", content=WRONG),
]  # fmt: skip


@pytest.mark.parametrize("as_text", [True, False])
def test_events_of_pydantic_ai(read, as_text):
    events = [*EVENTS, event("choice", index=0, message={"role": "assistant", "content": B})]
    attributes = {"gen_ai.operation.name": "chat", "events": orjson.dumps(events).decode() if as_text else events}
    told = read(span("1", attributes))
    assert (told.formats, told.texts()) == (["otel"], [("system", "Be brief."), *CHAT])


def test_calls_and_parts_in_events(read):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    parts = [{"kind": "text", "text": Q}, {"kind": "image-url", "url": "x"}]
    events = [
        event("user.message", role="user", content=parts),
        event("assistant.message", role="assistant", tool_calls=[call]),
        event("tool.message", role="tool", id="c1", name="add", content="4"),
        event("choice", message={"role": "assistant", "content": [
            {"kind": "thinking", "text": "I add."}, {"kind": "text", "text": B}]}),
    ]  # fmt: skip
    given = {"function_tools": [{"name": "add", "description": "d", "parameters_json_schema": {"type": "object"}}]}
    attributes = {"gen_ai.operation.name": "chat", "events": events, "model_request_parameters": given}
    asked, called, answered, reply = read(span("1", attributes)).only.messages
    assert asked.content == f"{Q}\n[image]"
    assert [(c.function.name, c.function.arguments) for c in called.tool_calls] == [("add", '{"a":2}')]
    assert (answered.content, answered.name, reply.content, reply.reasoning) == ("4", "add", B, "I add.")


@pytest.mark.parametrize(
    "attributes",
    [
        {"all_messages_events": [*EVENTS, event("assistant.message", role="assistant", content=B)]},
        {"pydantic_ai.all_messages": [
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": Q}]},
            {"role": "assistant", "parts": [{"type": "text", "content": A}]},
            {"role": "user", "parts": [{"type": "text", "content": WRONG}]},
            {"role": "assistant", "parts": [{"type": "text", "content": B}]},
        ]},
    ],
)  # fmt: skip
def test_a_run_of_an_agent_is_read_if_its_calls_are_not_in_the_logs(read, attributes):
    run = span("1", {"gen_ai.agent.name": "agent", **attributes}, "t")
    told = read(run)
    assert (told.formats, told.texts()) == (["otel"], [("system", "Be brief."), *CHAT])
    call = span("2", {"gen_ai.operation.name": "chat", "events": [*EVENTS[:2], event("choice", message=bot(A))]}, "t")
    told = read(run, call)
    assert (told.texts(), told.reasons) == ([("system", "Be brief."), *CHAT[:2]], ["not_a_chat"])


def test_a_row_that_logfire_exports(read):
    events = [*EVENTS[1:2], event("choice", message=bot(A))]
    row = {
        "span_name": "chat gpt-4o", "trace_id": "t", "span_id": "1", "start_timestamp": "2025-01-01T00:00:00Z",
        "attributes": orjson.dumps({"gen_ai.operation.name": "chat", "events": events}).decode(),
    }  # fmt: skip
    told = read(row)
    assert (told.texts(), told.only.started_at) == (CHAT[:2], "2025-01-01T00:00:00+00:00")


@pytest.mark.parametrize(
    ("attributes", "reasons"),
    [
        ({"gen_ai.operation.name": "chat", "events": "[]"}, ["no_messages"]),
        ({"gen_ai.operation.name": "chat", "events": 7}, ["no_messages"]),
        ({"gen_ai.operation.name": "chat", "events": [None, 5, {"event.name": None}]}, ["no_messages"]),
        ({"gen_ai.operation.name": "chat", "events": [event("choice", message=bot(A))]}, ["no_messages"]),
        ({"gen_ai.prompt.0.role": "user"}, ["not_a_chat"]),
        ({"gen_ai.prompt.0.role": "alien", "gen_ai.prompt.0.content": Q}, ["unknown_role"]),
        ({"traceloop.span.kind": "workflow", "traceloop.entity.input": "{"}, ["not_a_chat"]),
        ({"pydantic_ai.all_messages": [5]}, ["not_a_chat"]),
    ],
)
def test_spans_without_a_chat_are_named(read, attributes, reasons):
    told = read(span("1", attributes), format_name="otel")
    assert (told.conversations, told.reasons) == ([], reasons)
