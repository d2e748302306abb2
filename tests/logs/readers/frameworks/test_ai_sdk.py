"""AI SDK: the steps of a message, both generations of it, and the tables of the chatbot template with their votes."""

import pytest

from drift.logs.readers.frameworks.ai_sdk import unread_in

Q, A = "Name a red fruit.", "Cherry."


def message(name, role, *parts, **more) -> dict:
    return {
        "id": name,
        "role": role,
        "parts": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts],
        **more,
    }


def test_a_chat_of_ui_messages(read):
    picture = {"type": "file", "mediaType": "image/png", "url": "data:"}
    thought = {"type": "reasoning", "text": "hm"}
    messages = [
        message("1", "user", Q, picture, metadata={"createdAt": 1716212345}),
        message("2", "assistant", {"type": "step-start"}, thought, A, metadata={"model": "m-1"}),
        message("3", "user", "Thanks", {"type": "data-weather", "data": {}}),
    ]
    told = read({"id": "chat1", "userId": "ann", "messages": messages})
    assert told.formats == ["ai_sdk"]
    assert told.only.messages[1].reasoning == "hm"
    assert told.texts() == [("user", f"{Q}\n[image]"), ("assistant", A), ("user", "Thanks")]
    assert (told.only.source_id, told.only.user_key, told.only.model) == ("chat1", "ann", "m-1")
    assert told.only.started_at == told.only.messages[0].timestamp == "2024-05-20T13:39:05+00:00"


TOOL = {
    "type": "tool-search",
    "toolCallId": "c1",
    "state": "output-available",
    "input": {"q": "fruit"},
    "output": "cherries",
}
INVOCATION = {"state": "result", "toolCallId": "c1", "toolName": "search", "args": {"q": "fruit"}, "result": "cherries"}
TOOLS = {
    "version 5": message("2", "assistant", {"type": "step-start"}, TOOL, {"type": "step-start"}, A),
    "a dynamic tool": message("2", "assistant", {**TOOL, "type": "dynamic-tool", "toolName": "search"}, A),
    "version 4": message("2", "assistant", {"type": "tool-invocation", "toolInvocation": INVOCATION}, A),
    "before parts": {"id": "2", "role": "assistant", "content": A, "toolInvocations": [INVOCATION]},
}


@pytest.mark.parametrize("version", TOOLS)
def test_the_result_of_a_tool_is_a_message_before_the_text_that_uses_it(read, version):
    told = read({"id": "c", "messages": [message("1", "user", Q), TOOLS[version]]})
    assert told.formats == ["ai_sdk"]
    assert told.texts() == [("user", Q), ("assistant", ""), ("tool", "cherries"), ("assistant", A)]
    call, answer = told.only.messages[1:3]
    assert [(one.id, one.function.name, one.function.arguments) for one in call.tool_calls] == [
        ("c1", "search", '{"q":"fruit"}')
    ]
    assert (answer.tool_call_id, answer.name) == ("c1", "search")


@pytest.mark.parametrize(
    ("output", "text"), [({"red": 2}, '{"red":2}'), ([1, 2], "[1,2]"), (7, "7"), (None, ""), (False, "false")]
)
def test_any_result_of_a_tool_names_its_call(read, output, text):
    """A tool that returns nothing has answered, too."""
    told = read(
        {"id": "c", "messages": [message("1", "user", Q), message("2", "assistant", {**TOOL, "output": output})]}
    )
    answer = told.only.messages[2]
    assert (answer.role, answer.content, answer.tool_call_id, answer.name) == ("tool", text, "c1", "search")


@pytest.mark.parametrize("state", ["input-available", "input-streaming"])
def test_a_call_that_still_runs_has_no_answer(read, state):
    running = {name: value for name, value in {**TOOL, "state": state}.items() if name != "output"}
    told = read({"id": "c", "messages": [message("1", "user", Q), message("2", "assistant", running)]})
    assert [m.role for m in told.only.messages] == ["user", "assistant"]


@pytest.mark.parametrize(("approval", "text"), [({"reason": "Not mine."}, "Not mine."), ({}, "Tool execution denied.")])
def test_a_call_that_the_user_did_not_allow_has_the_answer_that_the_model_saw(read, approval, text):
    denied = {name: value for name, value in TOOL.items() if name != "output"}
    denied |= {"state": "output-denied", "approval": {"id": "a", "approved": False, **approval}}
    told = read({"id": "c", "messages": [message("1", "user", Q), message("2", "assistant", denied, A)]})
    assert told.texts()[1:] == [("assistant", ""), ("tool", text), ("assistant", A)]
    assert told.only.messages[2].tool_call_id == "c1"


CALLED = {"type": "tool-call", "toolCallId": "c1", "toolName": "search", "input": {"q": "fruit"}}
ASKED = {"type": "tool-approval-request", "approvalId": "a", "toolCallId": "c1"}
ALLOWED = {"type": "tool-approval-response", "approvalId": "a", "approved": True}
OUTPUTS = [
    ({"type": "text", "value": "cherries"}, "cherries"), ({"type": "json", "value": {"red": 2}}, '{"red":2}'),
    ({"type": "json", "value": None}, ""), ({"type": "error-text", "value": "no net"}, "no net"),
    ({"type": "content", "value": [{"type": "text", "text": "cherries"}]}, "cherries"),
    ({"type": "execution-denied", "reason": "Not mine."}, "Not mine."),
    ({"type": "execution-denied"}, "Tool execution denied."), ({"type": "fig", "value": 2}, '{"type":"fig","value":2}'),
]  # fmt: skip


@pytest.mark.parametrize(("output", "text"), OUTPUTS)
@pytest.mark.parametrize("log", ["messages", "langfuse"])
def test_messages_to_a_model_hold_the_result_in_an_object(read, output, text, log):
    result = {"type": "tool-result", "toolCallId": "c1", "toolName": "search", "output": output}
    chat = [{"role": "user", "content": Q}, {"role": "assistant", "content": [CALLED]},
            {"role": "tool", "content": [result]}]  # fmt: skip
    call = {"type": "GENERATION", "id": "o", "traceId": "t", "input": chat, "output": A}
    told = read({"messages": [*chat, {"role": "assistant", "content": A}]} if log == "messages" else call)
    assert told.texts() == [("user", Q), ("assistant", ""), ("tool", text), ("assistant", A)]
    assert told.only.messages[2].tool_call_id == "c1"


@pytest.mark.parametrize("apart", [True, False])
def test_what_asks_for_an_approval_is_no_file_and_what_gives_it_no_answer_of_a_tool(read, apart):
    result = {"type": "tool-result", "toolCallId": "c1", "toolName": "search", "output": {"type": "text", "value": "r"}}
    answers = [[ALLOWED], [result]] if apart else [[ALLOWED, result]]
    told = read({"messages": [
        {"role": "user", "content": Q}, {"role": "assistant", "content": [CALLED, ASKED]},
        *({"role": "tool", "content": parts} for parts in answers), {"role": "assistant", "content": A},
    ]})  # fmt: skip
    assert told.texts() == [("user", Q), ("assistant", ""), ("tool", "r"), ("assistant", A)]
    assert not any(message.has_media for message in told.only.messages)


def test_messages_of_the_application_are_left_out(read):
    told = read(
        {
            "id": "c",
            "messages": [
                message("1", "user", Q),
                {"id": "2", "role": "data", "content": ""},
                message("3", "assistant", A),
            ],
        }
    )
    assert told.texts() == [("user", Q), ("assistant", A)]


def row(name, chat, role, text, second) -> dict:
    at = f"2025-06-01T10:00:0{second}+00:00"
    return {
        "id": name,
        "chatId": chat,
        "role": role,
        "parts": f'[{{"type": "text", "text": "{text}"}}]',
        "attachments": [],
        "createdAt": at,
    }


def test_the_tables_of_the_template_with_votes(read):
    messages = [row("m2", "c1", "assistant", A, 2), row("m1", "c1", "user", Q, 1), row("m3", "c2", "user", "Hi", 3)]
    votes = [
        {"chatId": "c1", "messageId": "m2", "isUpvoted": False},
        {"chatId": "c9", "messageId": "m9", "isUpvoted": True},
    ]
    told = read(messages=messages, votes=votes)
    assert told.formats == ["ai_sdk_table", "ai_sdk_table"]
    assert [told.texts(place) for place in (0, 1)] == [[("user", Q), ("assistant", A)], [("user", "Hi")]]
    assert [(r.reply_index, r.kind, r.value) for r in told.conversations[0].ratings] == [(1, "thumb", -1.0)]
    assert sorted(told.reasons) == ["joined_as_evidence", "orphan_feedback"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"messages": []}, "no_messages"),
        ({"messages": None}, "no_messages"),
        ({"messages": 5}, "no_messages"),
        ({"messages": [5]}, "not_an_object"),
        ({"messages": [{"role": "user", "content": 5}]}, "bad_content"),
        ({"messages": [message("1", "robot", "x")]}, "unknown_role"),
        ({"messages": [message("1", "assistant", A)]}, "no_user_turn"),
    ],
)
def test_what_is_no_chat_has_a_name(read, value, reason):
    assert read(value, format_name="ai_sdk").reasons == [reason]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"chatId": "c", "messageId": "m", "isUpvoted": 5}, "no_verdict"),
        ({"role": "user", "parts": []}, "no_messages"),
        ({"chatId": "c", "role": "data", "parts": []}, "not_a_chat"),
        ({"chatId": "c", "role": "assistant", "parts": [{"type": "text", "text": "x"}]}, "no_user_turn"),
    ],
)
def test_a_row_of_no_chat_has_a_name(read, value, reason):
    assert read(value, format_name="ai_sdk_table").reasons == [reason]


@pytest.mark.parametrize("place", ["metadata", "message"])
def test_a_judgement_beside_or_in_the_metadata_of_a_reply_is_a_rating(read, place):
    def judged(role, **feedback):
        said = {"id": role, "role": role, "parts": [{"type": "text", "text": "x"}]}
        return {**said, "metadata": feedback} if place == "metadata" else {**said, **feedback}

    told = read({"id": "c", "messages": [judged("user"), judged("assistant", feedback="negative")]})
    assert [(r.reply_index, r.kind, r.value) for r in told.only.ratings] == [(1, "thumb", -1.0)]
    told = read({"id": "c", "messages": [judged("user"), judged("assistant", rating="meh")]})
    assert (told.only.ratings, told.reasons) == ((), ["no_verdict"])
    assert list(unread_in({"messages": [judged("user", feedback="up"), judged("assistant", feedback="up")]})) == [
        "messages.feedback"
    ]
