"""Phoenix keeps the attributes of OpenInference inside each other: as objects in its database and its API, with dotted
names in its dataframes."""

import orjson
import pytest

SCHEMA = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
OBJECTS = {
    "openinference": {"span": {"kind": "LLM"}},
    "session": {"id": "s"},
    "user": {"id": "ann"},
    "metadata": {"consent": "no"},
    "llm": {
        "model_name": "m",
        "tools": [{"tool": {"json_schema": orjson.dumps(SCHEMA).decode()}}],
        "input_messages": [
            {"message": {"role": "user", "content": "2+2?"}},
            {"message": {"role": "assistant", "tool_calls": [
                {"tool_call": {"id": name, "function": {"name": "add", "arguments": '{"a":2}'}}} for name in ("c", "d")
            ]}},
            {"message": {"role": "tool", "content": "4", "tool_call_id": "c"}},
            {"message": {"role": "tool", "content": "4", "tool_call_id": "d"}},
        ],
        "output_messages": [{"message": {"role": "assistant", "content": "Four."}}],
    },
}  # fmt: skip
DATAFRAME = {
    "attributes.openinference.span.kind": "LLM",
    "attributes.session.id": "s",
    "attributes.user.id": "ann",
    "attributes.metadata": {"consent": "no"},
    "attributes.llm.model_name": "m",
    "attributes.llm.tools": [{"tool.json_schema": orjson.dumps(SCHEMA).decode()}],
    "attributes.llm.input_messages": [
        {"message.role": "user", "message.content": "2+2?"},
        {"message.role": "assistant", "message.tool_calls": [
            {"tool_call.id": name, "tool_call.function.name": "add", "tool_call.function.arguments": '{"a":2}'}
            for name in ("c", "d")
        ]},
        {"message.role": "tool", "message.content": "4", "message.tool_call_id": "c"},
        {"message.role": "tool", "message.content": "4", "message.tool_call_id": "d"},
    ],
    "attributes.llm.output_messages": [{"message.role": "assistant", "message.content": "Four."}],
}  # fmt: skip
ROWS = {
    "objects": {"context": {"trace_id": "t", "span_id": "a"}, "attributes": OBJECTS},
    "database": {"span_id": "a", "attributes": orjson.dumps(OBJECTS).decode()},
    "dataframe": {"context.trace_id": "t", "context.span_id": "a", **DATAFRAME},
}


@pytest.mark.parametrize("form", ROWS)
def test_who_and_the_calls_of_tools_are_read_from_attributes_inside_each_other(read, form):
    told = read({"name": "ChatCompletion", "start_time": "2026-01-01T00:00:00Z", **ROWS[form]})
    assert told.formats == ["openinference"]
    assert told.texts() == [("user", "2+2?"), ("assistant", ""), ("tool", "4"), ("tool", "4"), ("assistant", "Four.")]
    only = told.only
    assert [(c.id, c.function.name, c.function.arguments) for c in only.messages[1].tool_calls] == [
        ("c", "add", '{"a":2}'), ("d", "add", '{"a":2}'),
    ]  # fmt: skip
    assert (only.user_key, only.model, only.tags["consent"]) == ("ann", "m", "no")
    assert (only.source_id or "").startswith("s/")
    assert orjson.loads(only.tools or "") == [SCHEMA]


def test_a_function_call_of_an_old_dataframe_is_a_call(read):
    called = {"message.role": "assistant", "message.function_call_name": "add",
              "message.function_call_arguments_json": "{}"}  # fmt: skip
    answer = {"message.role": "function", "message.content": "4"}
    asked = [DATAFRAME["attributes.llm.input_messages"][0], called, answer]
    told = read({**ROWS["dataframe"], "attributes.llm.input_messages": asked})
    assert [call.function.name for call in told.only.messages[1].tool_calls] == ["add"]


def test_a_root_span_of_phoenixs_database_names_the_session_of_its_calls(read):
    root = {key: OBJECTS[key] for key in ("session", "user")} | {"openinference": {"span": {"kind": "CHAIN"}}}
    call = {key: OBJECTS[key] for key in ("openinference", "llm")}
    context = {"trace_id": "t", "span_id": "a"}
    told = read({"context": {**context, "span_id": "r"}, "attributes": root}, {"context": context, "attributes": call})
    assert (told.only.user_key, (told.only.source_id or "")[:2]) == ("ann", "s/")
