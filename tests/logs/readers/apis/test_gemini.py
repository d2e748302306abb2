"""Gemini: requests and replies in both spellings, Vertex's logs, AI Studio's files, and what is refused."""

import orjson
import pytest

from chats import WRONG, A, B, Q

CHAT = [("user", Q), ("assistant", A), ("user", WRONG), ("assistant", B)]


def said(role, *texts):
    return {"role": role, "parts": [{"text": text} for text in texts]}


CONTENTS = [said("user", Q), said("model", A), said("user", WRONG), said("model", B)]


def test_contents_alone_are_a_chat(read):
    told = read({"contents": CONTENTS})
    assert (told.formats, told.texts()) == (["gemini"], CHAT)


@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
def test_a_tuning_row_keeps_its_instruction(read, name):
    told = read({name: {"role": "system", "parts": [{"text": "Be brief."}]}, "contents": CONTENTS})
    assert told.texts() == [("system", "Be brief."), *CHAT]


@pytest.mark.parametrize("name", ["messages", "contents"])
def test_ai_studio_rows_of_messages_with_parts(read, name):
    told = read({name: CONTENTS})
    assert (told.formats, told.texts()) == (["gemini"], CHAT)


def test_a_log_of_vertex_is_one_call_with_its_time_and_model(read):
    request = {"contents": CONTENTS[:3], "labels": {"session_id": "s1", "user_id": "ann"}}
    reply = {"candidates": [{"content": CONTENTS[3], "finishReason": "STOP"}], "modelVersion": "gemini-2.5-flash"}
    row = {
        "endpoint": "projects/p/locations/l/publishers/google/models/gemini-2.5",
        "deployed_model_id": "1",
        "logging_time": "2025-01-01T00:00:00Z",
        "request_id": 17,
    }
    for full in ((request, reply), (orjson.dumps(request).decode(), orjson.dumps(reply).decode())):
        told = read({**row, "full_request": full[0], "full_response": full[1]})
        assert (told.formats, told.texts()) == (["gemini"], CHAT)
        only = told.only
        assert (only.model, only.user_key, only.family is not None) == ("gemini-2.5-flash", "ann", True)
        assert only.started_at == "2025-01-01T00:00:00+00:00"
    told = read({**row, "full_request": request, "full_response": {**reply, "modelVersion": None}})
    assert told.only.model == "gemini-2.5"


def test_a_streamed_reply_is_joined(read):
    def chunk(text, **more):
        return {"candidates": [{"content": {"role": "model", "parts": [{"text": text, **more}]}}]}

    chunks = [chunk("Let me add.", thought=True), chunk("The sum"), chunk(" is 4.")]
    for response in (chunks, [orjson.dumps(chunk).decode() for chunk in chunks]):
        told = read({"request_payload": [{"contents": CONTENTS[:1]}], "response_payload": response})
        assert told.texts() == [("user", Q), ("assistant", "The sum is 4.")]
        assert told.only.messages[1].reasoning == "Let me add."


def test_calls_of_one_session_are_stitched(read):
    def row(contents, reply, at):
        request = {"contents": contents, "labels": {"session_id": "s1"}}
        return {"request": request, "response": {"candidates": [{"content": reply}]}, "createTime": at}

    told = read(
        row(CONTENTS[:1], CONTENTS[1], "2025-01-01T00:00:00Z"), row(CONTENTS[:3], CONTENTS[3], "2025-01-01T00:01:00Z")
    )
    assert (told.texts(), told.merged) == (CHAT, 1)


@pytest.mark.parametrize("camel", [True, False])
def test_calls_of_functions_answers_images_and_thoughts(read, camel):
    call, answer, data = ("functionCall", "functionResponse", "inlineData") if camel else (
        "function_call", "function_response", "inline_data")  # fmt: skip
    told = read(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Weather here?"}, {data: {"mimeType": "image/png", "data": "AA"}}]},
                {"role": "model", "parts": [
                    {"text": "I look at it.", "thought": True}, {call: {"name": "weather", "args": {"city": "Rome"}}},
                ]},
                {"role": "user", "parts": [{answer: {"name": "weather", "response": {"sky": "clear"}}}]},
                {"role": "model", "parts": [{"text": "Clear."}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "weather", "parameters": {"type": "OBJECT"}}]}],
        }
    )  # fmt: skip
    asked, called, answered, reply = told.only.messages
    assert (asked.content, told.only.has_media(0)) == ("Weather here?\n[image]", True)
    assert [(one.function.name, one.function.arguments) for one in called.tool_calls] == [
        ("weather", '{"city":"Rome"}')
    ]
    assert (called.role, called.content, called.reasoning) == ("assistant", "", "I look at it.")
    assert (answered.role, answered.name, answered.content) == ("tool", "weather", '{"sky":"clear"}')
    assert (reply.role, reply.content) == ("assistant", "Clear.")
    (schema,) = orjson.loads(told.only.tools)
    assert schema == {"type": "function", "function": {"name": "weather", "parameters": {"type": "OBJECT"}}}


def test_code_that_gemini_ran_is_a_call_and_its_answer(read):
    told = read(
        {
            "contents": [
                said("user", Q),
                {"role": "model", "parts": [
                    {"executableCode": {"language": "PYTHON", "code": "print(2+2)"}},
                    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "4\n"}},
                    {"text": "It is 4."},
                ]},
            ]
        }
    )  # fmt: skip
    assert told.texts() == [("user", Q), ("assistant", ""), ("tool", "4\n"), ("assistant", "It is 4.")]


def test_a_chat_that_ai_studio_saved(read):
    told = read(
        {
            "runSettings": {"model": "models/gemini-2.5-pro", "temperature": 1},
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "chunkedPrompt": {
                "chunks": [
                    {"text": Q, "role": "user", "tokenCount": 6},
                    {"driveImage": {"id": "x"}, "role": "user", "tokenCount": 258},
                    {"text": "I add.", "role": "model", "isThought": True},
                    {"text": A, "role": "model", "finishReason": "STOP"},
                    {"text": WRONG, "role": "user"},
                ],
                "pendingInputs": [{"text": "", "role": "user"}],
            },
        }
    )
    assert (told.formats, told.only.model) == (["gemini"], "gemini-2.5-pro")
    assert told.texts() == [
        ("system", "Be brief."), ("user", Q), ("user", "[image]"), ("assistant", A), ("user", WRONG),
    ]  # fmt: skip
    assert told.only.messages[3].reasoning == "I add."


def test_code_that_ran_in_a_chat_of_ai_studio_is_a_call_with_its_answer(read):
    """Such a chunk has no text: it made the whole chat unreadable."""
    chunks = [
        {"text": Q, "role": "user"},
        {"executableCode": {"language": "PYTHON", "code": "print(2+2)"}, "role": "model"},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "4"}, "role": "model"},
        {"text": A, "role": "model", "finishReason": "STOP"},
    ]
    messages = read({"chunkedPrompt": {"chunks": chunks}}).only.messages
    assert [(message.role, message.content) for message in messages] == [
        ("user", Q), ("assistant", ""), ("tool", "4"), ("assistant", A),
    ]  # fmt: skip
    assert [call.function.name for call in messages[1].tool_calls] == ["code_execution"]


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        ({"contents": []}, ["no_messages"]),
        ({"contents": None}, ["no_messages"]),
        ({"contents": 5}, ["no_messages"]),
        ({"contents": [said("model", A)]}, ["no_user_turn"]),
        ({"contents": [{"role": "alien", "parts": [{"text": Q}]}]}, ["unknown_role"]),
        ({"contents": [{"role": "user", "parts": [{"unknown": 1}]}]}, ["no_messages"]),
        ({"contents": [said("user", Q), {"role": "model", "parts": [{"unknown": 1}]}]}, ["bad_content"]),
        ({"contents": [said("user", Q)], "candidates": 7}, []),
        ({"contents": [said("user", Q)], "candidates": [{"content": {}, "finishReason": "SAFETY"}]}, []),
        ({"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "w", "response": None}}]}]},
         ["no_user_turn"]),
    ],
)  # fmt: skip
def test_bad_rows_have_a_named_outcome(read, row, reasons):
    assert read(row, format_name="gemini").reasons == reasons


def test_five_megabytes_and_a_thousand_levels_are_read_or_named(read, read_files, tmp_path):
    assert read({"contents": [said("user", "x" * 5_000_000), said("model", A)]}).only.messages[1].content == A
    for levels in (200, 500, 900):
        deep = '{"a":[' * (levels // 2) + "1" + "]}" * (levels // 2)
        call = f'{{"role": "model", "parts": [{{"functionCall": {{"name": "f", "args": {deep}}}}}]}}'
        log = tmp_path / f"{levels}.jsonl"
        log.write_text('{"contents": [{"role": "user", "parts": [{"text": "q"}]}, ' + call + "]}\n")
        told = read_files(log)
        assert told.reasons in ([], ["bad_content"])
        if not told.reasons:
            assert told.only.messages[1].tool_calls[0].function.arguments == deep
