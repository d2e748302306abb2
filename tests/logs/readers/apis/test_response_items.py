"""Items of the Responses API besides messages: calls that the server ran, pictures, and what becomes no message."""

from pathlib import Path

import orjson

from drift.logs.ingest import ingest
from drift.records import FunctionCall, ToolCall
from drift.store import Store

SAID = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "It is sunny."}]}
MCP = {"type": "mcp_call", "id": "x", "name": "weather", "arguments": '{"city":"Rome"}', "output": "sunny"}
CODE = {
    "type": "code_interpreter_call", "id": "c", "code": "plot()",
    "outputs": [{"type": "logs", "logs": "1"}, {"type": "image", "url": "u"}],
}  # fmt: skip
PICTURE = {"type": "image_generation_call", "id": "g", "result": "base64"}


def response(name: str, *output: dict, given: object = "Is it sunny?") -> dict:
    return {"object": "response", "id": name, "created_at": 1714557600, "input": given, "output": list(output)}


def test_calls_that_the_server_ran_are_kept_with_their_answers(read):
    called, answer, code, printed, reply = read(response("r", MCP, CODE, SAID)).only.messages[1:]
    assert called.tool_calls == (ToolCall(FunctionCall("weather", '{"city":"Rome"}'), "x"),)
    assert (answer.role, answer.content, answer.tool_call_id) == ("tool", "sunny", "x")
    assert code.tool_calls == (ToolCall(FunctionCall("code_interpreter", '{"code":"plot()"}'), "c"),)
    assert (printed.role, printed.content) == ("tool", "1\n[image]")
    assert reply.content == "It is sunny."


def test_a_failed_call_and_one_that_gave_nothing_are_answered(read):
    failed = {**MCP, "output": None, "error": "timeout"}
    told = read(response("r", failed, {**CODE, "outputs": None}, SAID)).only.messages
    assert [m.content for m in told if m.role == "tool"] == ["timeout", ""]


def test_a_call_that_the_application_answers_is_one(read):
    shell = {"type": "local_shell_call", "id": "i", "call_id": "k", "action": {"command": ["ls"]}}
    answer = {"type": "local_shell_call_output", "call_id": "k", "output": "a.txt"}
    told = read(response("r", SAID, given=[{"role": "user", "content": "?"}, shell, answer])).only.messages
    assert told[1].tool_calls == (ToolCall(FunctionCall("local_shell", '{"command":["ls"]}'), "k"),)
    assert (told[2].content, told[2].tool_call_id) == ("a.txt", "k")


def test_a_picture_is_a_mark_in_the_reply_and_in_the_next_call(read):
    question = {"role": "user", "content": "Draw the sun."}
    given = [question, PICTURE, SAID, {"role": "user", "content": "That is the moon."}]
    told = read(response("1", PICTURE, SAID, given=[question]), response("2", SAID, given=given))
    assert [m.content for m in told.only.messages] == [
        "Draw the sun.", "[image]\nIt is sunny.", "That is the moon.", "It is sunny.",
    ]  # fmt: skip
    assert told.only.has_media(1)
    assert told.merged == 1


def test_a_picture_alone_is_a_reply(read):
    assert [m.content for m in read(response("r", PICTURE)).only.messages] == ["Is it sunny?", "[image]"]


def test_items_that_become_no_message_are_counted(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    items = {"type": "web_search_call", "id": "w", "action": {"query": "q"}}, {"type": "mcp_list_tools", "tools": []}
    log.write_bytes(orjson.dumps(response("r", *items, {"type": "reasoning", "summary": []}, SAID)))
    assert ingest([log], Store(tmp_path / "store")).unread == {"output.web_search_call": 1, "output.mcp_list_tools": 1}
