"""Bedrock: invocation logs of every provider, Converse in both directions, streams, and what is no chat."""

import orjson
import pytest

from chats import WRONG, A, B, Q

CHAT = [("user", Q), ("assistant", A), ("user", WRONG), ("assistant", B)]


def said(role, text):
    return {"role": role, "content": [{"text": text}]}


CONVERSE = {"messages": [said("user", Q), said("assistant", A), said("user", WRONG)]}
REPLY = {"output": {"message": said("assistant", B)}, "stopReason": "end_turn"}


def log(request, reply, operation="Converse", **more):
    return {
        "schemaType": "ModelInvocationLog", "schemaVersion": "1.0", "timestamp": "2025-04-09T23:00:17Z",
        "accountId": "1", "identity": {"arn": "arn:aws:sts::1:assumed-role/app"}, "region": "us-east-1",
        "requestId": "r1", "operation": operation, "modelId": "some.model-v1:0",
        "input": {"inputContentType": "application/json", "inputBodyJson": request, "inputTokenCount": 35},
        "output": {"outputContentType": "application/json", "outputBodyJson": reply, "outputTokenCount": 4}, **more,
    }  # fmt: skip


def test_a_logged_call_with_its_time_model_and_metadata(read):
    request = {"system": [{"text": "Be brief."}], **CONVERSE}
    told = read(log(request, REPLY, requestMetadata={"sessionId": "s1", "userId": "ann"}))
    assert (told.formats, told.texts()) == (["bedrock"], [("system", "Be brief."), *CHAT])
    only = told.only
    assert (only.model, only.user_key, only.started_at) == ("some.model-v1:0", "ann", "2025-04-09T23:00:17+00:00")
    assert only.source_id.startswith("s1/")


def test_the_role_of_the_application_is_no_user(read):
    assert read(log(CONVERSE, REPLY)).only.user_key is None


@pytest.mark.parametrize("name", ["message", "@message"])
def test_an_event_of_cloudwatch_holds_the_log_as_text(read, name):
    told = read({"@timestamp": "2025-04-09", name: orjson.dumps(log(CONVERSE, REPLY)).decode()})
    assert (told.formats, told.texts()) == (["bedrock"], CHAT)


@pytest.mark.parametrize(
    "row",
    [
        {"modelId": "m", **CONVERSE, **REPLY},
        {"modelId": "m", **CONVERSE, "response": REPLY},
        {"request": {"modelId": "m", **CONVERSE}, "response": REPLY},
        {"modelId": "m", "messages": [*CONVERSE["messages"], said("assistant", B)]},
    ],
)
def test_requests_and_replies_of_converse_by_themselves(read, row):
    told = read(row)
    assert (told.formats, told.texts(), told.only.model) == (["bedrock"], CHAT, "m")


ANTHROPIC = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": Q}]}


@pytest.mark.parametrize(
    ("request_body", "reply"),
    [
        (ANTHROPIC, {"type": "message", "role": "assistant", "content": [{"type": "text", "text": A}]}),
        ({"messages": [said("user", Q)], "inferenceConfig": {}}, {"output": {"message": said("assistant", A)}}),
        ({"inputText": Q, "textGenerationConfig": {}}, {"inputTextTokenCount": 5, "results": [{"outputText": A}]}),
        ({"prompt": Q, "max_gen_len": 5}, {"generation": A, "stop_reason": "stop"}),
        ({"prompt": Q}, {"outputs": [{"text": A, "stop_reason": "stop"}]}),
        ({"prompt": Q}, {"completion": A}),
        ({"prompt": Q}, {"choices": [{"text": A, "stop_reason": "stop"}]}),
        ({"message": Q, "chat_history": []}, {"text": A, "generation_id": "g"}),
        (ANTHROPIC, {"choices": [{"message": {"role": "assistant", "content": A}}]}),
        ({"prompt": Q}, {"completions": [{"data": {"text": A}}]}),
    ],
    ids=["anthropic", "nova", "titan", "llama", "mistral", "claude-2", "deepseek", "cohere", "jamba", "jurassic"],
)  # fmt: skip
def test_bodies_of_invoke_model_are_those_of_the_provider(read, request_body, reply):
    told = read(log(request_body, reply, "InvokeModel"))
    assert (told.formats, told.texts()) == (["bedrock"], [("user", Q), ("assistant", A)])


def test_cohere_keeps_its_history_and_preamble(read):
    history = [{"role": "USER", "message": Q}, {"role": "CHATBOT", "message": A}]
    body = {"message": WRONG, "chat_history": history, "preamble": "Be brief."}
    told = read(log(body, {"text": B}, "InvokeModel"))
    assert told.texts() == [("system", "Be brief."), *CHAT]


STREAMS = {
    "anthropic": [
        {"type": "message_start", "message": {"role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "I add."}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "It is"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": " 4."}},
        {"type": "message_stop"},
    ],
    "nova": [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "I add."}}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "It is"}, "contentBlockIndex": 1}},
        {"contentBlockDelta": {"delta": {"text": " 4."}, "contentBlockIndex": 1}},
        {"messageStop": {"stopReason": "end_turn"}},
    ],
    "openai": [
        {"choices": [{"delta": {"role": "assistant", "reasoning_content": "I add."}}]},
        {"choices": [{"delta": {"content": "It is"}}]},
        {"choices": [{"delta": {"content": " 4."}}]},
        {"choices": []},
    ],
}


@pytest.mark.parametrize("provider", STREAMS)
def test_a_stream_is_joined(read, provider):
    told = read(log(ANTHROPIC, STREAMS[provider], "InvokeModelWithResponseStream"))
    assert told.texts() == [("user", Q), ("assistant", "It is 4.")]
    assert told.only.messages[1].reasoning == "I add."


@pytest.mark.parametrize("chunks", [[{"generation": "It is"}, {"generation": " 4."}], [{"outputText": "It is 4."}]])
def test_a_stream_of_texts_is_joined(read, chunks):
    assert read(log(ANTHROPIC, chunks, "InvokeModelWithResponseStream")).texts()[1] == ("assistant", "It is 4.")


def test_a_call_in_a_stream_is_joined(read):
    events = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t1", "name": "w"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
    ]
    (_, called) = read(log(ANTHROPIC, events, "InvokeModelWithResponseStream")).only.messages
    assert [(c.id, c.function.name, c.function.arguments) for c in called.tool_calls] == [("t1", "w", '{"a": 1}')]


def test_calls_of_tools_thoughts_and_images(read):
    request = {
        "messages": [
            {"role": "user", "content": [{"text": "Weather?"}, {"image": {"format": "png", "source": {"bytes": "x"}}}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "I look.", "signature": "s"}}},
                {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Rome"}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t1", "content": [{"json": {"sky": "clear"}}], "status": "success"}},
            ]},
        ],
        "toolConfig": {"tools": [
            {"toolSpec": {"name": "weather", "description": "d", "inputSchema": {"json": {"type": "object"}}}},
        ]},
    }  # fmt: skip
    told = read(log(request, {"output": {"message": said("assistant", "Clear.")}}))
    asked, called, answered, reply = told.only.messages
    assert (asked.content, told.only.has_media(0)) == ("Weather?\n[image]", True)
    assert [(c.id, c.function.name, c.function.arguments) for c in called.tool_calls] == [
        ("t1", "weather", '{"city":"Rome"}')
    ]
    assert called.reasoning == "I look."
    assert (answered.role, answered.tool_call_id, answered.content) == ("tool", "t1", '{"sky":"clear"}')
    assert reply.content == "Clear."
    function = {"name": "weather", "description": "d", "parameters": {"type": "object"}}
    assert orjson.loads(told.only.tools) == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (log(CONVERSE, REPLY, "CreateModelCopyJob"), ["not_a_chat"]),
        (log({"inputText": "x", "dimensions": 256}, {"embedding": [0.1]}, "InvokeModel"), ["not_a_chat"]),
        (log({"taskType": "TEXT_IMAGE"}, {"images": []}, "InvokeModel"), ["not_a_chat"]),
        (log(None, None), ["no_messages"]),
        ({**log(None, None), "input": {"inputBodyS3Path": "s3://b/x.json.gz"}}, ["no_messages"]),
        (log([], REPLY), ["no_messages"]),
        (log({"messages": []}, {}), ["no_messages"]),
        (log({"messages": [said("assistant", A)]}, REPLY), ["no_user_turn"]),
        (log({"messages": [said("alien", A)]}, REPLY), ["unknown_role"]),
        (log(CONVERSE, {"message": "throttled"}), []),
        (log({"messages": [{"role": "user", "content": 7}]}, REPLY), ["bad_content"]),
        ({"messages": 5}, ["no_messages"]),
        ({}, ["no_messages"]),
    ],
)
def test_rows_without_a_chat_are_named(read, row, reasons):
    assert read(row, format_name="bedrock").reasons == reasons


def test_a_call_that_failed_leaves_the_request(read):
    told = read({**log(CONVERSE, None), "errorCode": "ThrottlingException"})
    assert told.texts() == CHAT[:3]
