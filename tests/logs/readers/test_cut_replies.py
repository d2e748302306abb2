"""A reply that was cut, at a token limit or by the user, is unfinished: in every format whose rows say so."""

import orjson
import pytest

from drift.logs.ingest import ingest
from drift.store import Store

Q, A, NO, B = "What is a whale?", "A whale is a very", "You stopped in the middle.", "A whale is a mammal."
ASK, CUT, COMPLAINT, END = (
    {"role": role, "content": text} for role, text in (("user", Q), ("assistant", A), ("user", NO), ("assistant", B))
)


def text(value):
    return orjson.dumps(value).decode()


def said(message):
    """A message of Bedrock's Converse."""
    return {"role": message["role"], "content": [{"text": message["content"]}]}


def parts(message):
    """A message of Gemini."""
    role = {"assistant": "model"}.get(message["role"], message["role"])
    return {"role": role, "parts": [{"text": message["content"]}]}


def of_otel(message, **more):
    return {"role": message["role"], "parts": [{"type": "text", "content": message["content"]}], **more}


def block(message):
    return {"type": "message", "role": "assistant", "content": [{"type": "text", "text": message["content"]}]}


def choice(message, reason, **more):
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}], **more}


def openai(messages, reply, reason):
    return {"object": "chat.completion", "id": f"c{len(messages)}", "messages": messages, **choice(reply, reason)}


def gateway(messages, reply, reason):
    return {"request": {"messages": messages}, "response": choice(reply, reason)}


def anthropic(messages, reply, reason):
    reason = {"length": "max_tokens", "stop": "end_turn"}[reason]
    return {"request": {"messages": messages}, "response": {**block(reply), "stop_reason": reason}}


def anthropic_stream(messages, reply, reason):
    reason = {"length": "max_tokens", "stop": "end_turn"}[reason]
    events = [
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": reply["content"]}},
        {"type": "message_delta", "delta": {"stop_reason": reason}},
    ]
    return {"request": {"messages": messages}, "response": events}


def responses(messages, reply, reason):
    item = {"id": "i", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": A}]}
    item["content"][0]["text"] = reply["content"]
    ending = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return {
        "object": "response", "id": f"r{len(messages)}", "input": messages, "output": [item],
        **(ending if reason == "length" else {"status": "completed", "incomplete_details": None}),
    }  # fmt: skip


def gemini(messages, reply, reason):
    reason = {"length": "MAX_TOKENS", "stop": "STOP"}[reason]
    response = {"candidates": [{"content": parts(reply), "finishReason": reason}]}
    return {"request": {"contents": list(map(parts, messages))}, "response": response}


def gemini_number(messages, reply, reason):
    """Vertex AI's logs as protobuf gives them."""
    response = {"candidates": [{"content": parts(reply), "finish_reason": 2 if reason == "length" else 1}]}
    return {"full_request": {"contents": list(map(parts, messages))}, "full_response": response}


def gemini_chunks(messages, reply, reason):
    reason = {"length": "MAX_TOKENS", "stop": "STOP"}[reason]
    chunks = [
        {"candidates": [{"content": parts(reply)}]}, {"candidates": [{"content": {}, "finishReason": reason}]},
    ]  # fmt: skip
    return {"request": {"contents": list(map(parts, messages))}, "response": chunks}


def converse(messages, reply, reason):
    reason = {"length": "max_tokens", "stop": "end_turn"}[reason]
    response = {"output": {"message": said(reply)}, "stopReason": reason}
    return {"request": {"modelId": "m", "messages": list(map(said, messages))}, "response": response}


def converse_flat(messages, reply, reason):
    reason = {"length": "max_tokens", "stop": "end_turn"}[reason]
    return {
        "modelId": "m", "messages": list(map(said, messages)), "output": {"message": said(reply)}, "stopReason": reason,
    }  # fmt: skip


def invocation(messages, body):
    return {
        "schemaType": "ModelInvocationLog", "operation": "InvokeModel", "modelId": "m",
        "input": {"inputBodyJson": {"messages": messages}}, "output": {"outputBodyJson": body},
    }  # fmt: skip


def bedrock_llama(messages, reply, reason):
    return invocation(messages, {"generation": reply["content"], "stop_reason": reason})


def bedrock_titan(messages, reply, reason):
    reason = {"length": "LENGTH", "stop": "FINISH"}[reason]
    return invocation(messages, {"results": [{"outputText": reply["content"], "completionReason": reason}]})


def bedrock_mistral(messages, reply, reason):
    return invocation(messages, {"outputs": [{"text": reply["content"], "stop_reason": reason}]})


def bedrock_ai21(messages, reply, reason):
    inner = {"data": {"text": reply["content"]}, "finishReason": {"reason": reason, "length": 16}}
    return invocation(messages, {"completions": [inner]})


def bedrock_stream(messages, reply, reason):
    reason = {"length": "max_tokens", "stop": "end_turn"}[reason]
    deltas = [{"contentBlockDelta": {"delta": {"text": reply["content"]}, "contentBlockIndex": 0}}]
    return invocation(messages, [*deltas, {"messageStop": {"stopReason": reason}}])


def litellm(messages, reply, reason):
    return {"call_type": "acompletion", "id": f"l{len(messages)}", "messages": messages,
            "response": choice(reply, reason), "startTime": len(messages)}  # fmt: skip


def helicone(messages, reply, reason):
    return {"request_id": f"h{len(messages)}", "request_body": {"messages": messages},
            "response_body": choice(reply, reason)}  # fmt: skip


def helicone_stream(messages, reply, reason):
    events = [
        {"choices": [{"index": 0, "delta": {"content": reply["content"]}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
    ]
    body = {"streamed_data": events}
    return {"request_id": f"h{len(messages)}", "request_body": {"messages": messages}, "response_body": body}


def langfuse(messages, reply, reason, **more):
    return {"id": f"o{len(messages)}", "type": "GENERATION", "traceId": f"t{len(messages)}", "input": messages,
            "output": reply, "startTime": f"2025-01-01T00:00:0{len(messages)}Z", **more}  # fmt: skip


def langfuse_choices(messages, reply, reason):
    return {**langfuse(messages, reply, reason), "output": choice(reply, reason)}


def langfuse_otel(messages, reply, reason):
    told = {"attributes": {"gen_ai.response.finish_reasons": text([reason])}}
    return langfuse(messages, reply, reason, metadata=text(told))


def langfuse_langchain(messages, reply, reason):
    return langfuse(messages, {**reply, "response_metadata": {"finish_reason": reason}}, reason)


def langsmith(messages, reply, reason):
    kwargs = {"content": reply["content"], "response_metadata": {"finish_reason": reason}}
    message = {"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": kwargs}
    generation = {"text": reply["content"], "generation_info": {"finish_reason": reason}, "message": message}
    return {"run_type": "llm", "id": f"r{len(messages)}", "inputs": {"messages": messages},
            "outputs": {"generations": [[generation]]}, "start_time": len(messages)}  # fmt: skip


def weave(messages, reply, reason):
    return {"id": f"w{len(messages)}", "op_name": "weave:///e/p/op/openai.chat.completions.create:x", "trace_id": "t",
            "inputs": {"messages": messages}, "output": choice(reply, reason)}  # fmt: skip


def mlflow(messages, reply, reason):
    attributes = {"mlflow.spanType": text("CHAT_MODEL"), "mlflow.spanInputs": text({"messages": messages}),
                  "mlflow.spanOutputs": text(choice(reply, reason))}  # fmt: skip
    trace = f"tr-{len(messages)}"
    return {"info": {"trace_id": trace, "request_time": f"2025-01-01T00:00:0{len(messages)}Z"},
            "data": {"spans": [{"trace_id": trace, "span_id": "y", "attributes": attributes}]}}  # fmt: skip


def braintrust(messages, reply, reason):
    name = f"b{len(messages)}"
    return {"id": name, "span_id": name, "root_span_id": name, "input": messages,
            "output": [{"index": 0, "message": reply, "finish_reason": reason}],
            "span_attributes": {"type": "llm"}}  # fmt: skip


def span(messages, **attributes):
    number = len(messages)
    return {"name": "chat m", "context": {"trace_id": f"t{number}", "span_id": f"s{number}"},
            "start_time": f"2025-01-01T00:00:0{number}Z",
            "attributes": {"gen_ai.operation.name": "chat", **attributes}}  # fmt: skip


def otel(messages, reply, reason):
    """The finish reasons stand in an attribute of the span."""
    return span(messages, **{"gen_ai.input.messages": text(list(map(of_otel, messages))),
                             "gen_ai.output.messages": text([of_otel(reply)]),
                             "gen_ai.response.finish_reasons": [reason]})  # fmt: skip


def otel_message(messages, reply, reason):
    return span(messages, **{"gen_ai.input.messages": text(list(map(of_otel, messages))),
                             "gen_ai.output.messages": text([of_otel(reply, finish_reason=reason)])})  # fmt: skip


def openllmetry(messages, reply, reason):
    attributes = {}
    for place, message in enumerate(messages):
        attributes |= {f"gen_ai.prompt.{place}.{name}": value for name, value in message.items()}
    attributes |= {f"gen_ai.completion.0.{name}": value for name, value in reply.items()}
    return span(messages, **attributes, **{"gen_ai.completion.0.finish_reason": reason})


def otel_choice(messages, reply, reason):
    events = [{"name": f"gen_ai.{message['role']}.message", "attributes": message} for message in messages]
    events.append({"name": "gen_ai.choice", "attributes": {"finish_reason": reason, "message": text(reply)}})
    return {**span(messages), "events": events}


def openinference(messages, reply, reason):
    attributes = {"openinference.span.kind": "LLM", "llm.finish_reason": reason}
    for place, message in enumerate(messages):
        attributes |= {f"llm.input_messages.{place}.message.{name}": value for name, value in message.items()}
    attributes |= {f"llm.output_messages.0.message.{name}": value for name, value in reply.items()}
    return span(messages, **attributes)


def vercel(messages, reply, reason):
    return span(messages, **{"ai.operationId": "ai.generateText.doGenerate", "ai.prompt.messages": text(messages),
                             "ai.response.text": reply["content"], "ai.response.finishReason": reason})  # fmt: skip


CALLS = [
    openai, gateway, anthropic, anthropic_stream, responses, gemini, gemini_number, gemini_chunks, converse,
    converse_flat, bedrock_llama, bedrock_titan, bedrock_mistral, bedrock_ai21, bedrock_stream, litellm, helicone,
    helicone_stream, langfuse_choices, langfuse_otel, langfuse_langchain, langsmith, weave, mlflow, braintrust, otel,
    otel_message, openllmetry, otel_choice, openinference, vercel,
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_a_cut_reply_of_an_earlier_call_is_unfinished_and_the_others_are_not(read, call):
    """Only the call that gave a reply says why it ended; the conversation is read from the last call, which repeats
    it in its history."""
    told = read(call([ASK], CUT, "length"), call([ASK, CUT, COMPLAINT], END, "stop"))
    only = told.only
    assert told.texts() == [("user", Q), ("assistant", A), ("user", NO), ("assistant", B)]
    assert [only.finish_of(place) for place in (1, 3)] == ["length", "stop"]


@pytest.mark.parametrize("call", [openai, responses, otel], ids=lambda call: call.__name__)
def test_without_a_reply_that_was_cut_there_is_no_tag(read, call):
    told = read(call([ASK], CUT, "stop"), call([ASK, CUT, COMPLAINT], END, "stop"))
    assert "cut_turns" not in told.only.tags


@pytest.mark.parametrize("call", [gateway, bedrock_titan, openllmetry], ids=lambda call: call.__name__)
def test_a_last_reply_that_was_cut_is_unfinished(read, call):
    only = read(call([ASK, END, COMPLAINT], CUT, "length")).only
    assert [only.finish_of(place) for place in (1, 3)] == ["stop", "length"]


def ui(message, **more):
    return {"id": message["content"], "role": message["role"], "parts": [{"type": "text", "text": message["content"]}],
            **more}  # fmt: skip


def langchain(message, **more):
    kind = {"user": "human", "assistant": "ai"}[message["role"]]
    return {"type": kind, "content": message["content"], **more}


def chatgpt(*messages):
    nodes, above = {}, None
    for place, (message, reason) in enumerate(messages):
        metadata = {"finish_details": {"type": reason}} if reason else {}
        inner = {"author": {"role": message["role"]}, "metadata": metadata, "recipient": "all",
                 "content": {"content_type": "text", "parts": [message["content"]]}}  # fmt: skip
        nodes[str(place)] = {"id": str(place), "message": inner, "parent": above, "children": [str(place + 1)]}
        above = str(place)
    return {"title": "t", "mapping": nodes, "current_node": above, "conversation_id": "c"}


def librechat(message, **more):
    return {"messageId": message["content"], "text": message["content"], "isCreatedByUser": message["role"] == "user",
            "conversationId": "c", **more}  # fmt: skip


def openwebui(*messages):
    history = {
        str(i): {"id": str(i), "parentId": str(i - 1) if i else None, "childrenIds": [str(i + 1)], **message}
        for i, message in enumerate(messages)
    }
    return {"id": "c", "chat": {"history": {"currentId": str(len(messages) - 1), "messages": history}}}


def chatbox(message, **more):
    return {"id": message["content"], "role": message["role"],
            "contentParts": [{"type": "text", "text": message["content"]}], **more}  # fmt: skip


CHATS = {
    "messages": {"messages": [ASK, {**CUT, "finish_reason": "length"}, COMPLAINT, {**END, "finish_reason": "stop"}]},
    "anthropic's words": {"messages": [ASK, {**CUT, "stop_reason": "max_tokens"}, COMPLAINT, END]},
    "Ollama's words": {"messages": [ASK, {**CUT, "done_reason": "length"}, COMPLAINT, END]},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": Q}, {"from": "gpt", "value": A, "finish_reason": "length"},
            {"from": "human", "value": NO}, {"from": "gpt", "value": B},
        ]
    },
    "AI SDK": {"id": "c", "messages": [ui(ASK), ui(CUT, metadata={"finishReason": "length"}), ui(COMPLAINT), ui(END)]},
    "LangChain": {
        "messages": [
            langchain(ASK), langchain(CUT, response_metadata={"finish_reason": "length"}), langchain(COMPLAINT),
            langchain(END, response_metadata={"finish_reason": "stop"}),
        ]
    },
    "LangChain with Ollama": {
        "messages": [
            langchain(ASK), langchain(CUT, response_metadata={"done_reason": "length"}), langchain(COMPLAINT),
            langchain(END),
        ]
    },
    "ChatGPT": chatgpt((ASK, None), (CUT, "max_tokens"), (COMPLAINT, None), (END, "stop")),
    "ChatGPT, stopped by the user": chatgpt((ASK, None), (CUT, "interrupted"), (COMPLAINT, None), (END, "stop")),
    "LibreChat": {"messages": [librechat(ASK), librechat(CUT, finish_reason="length"), librechat(COMPLAINT),
                               librechat(END)]},
    "LibreChat, stopped by the user": {
        "messages": [librechat(ASK), librechat(CUT, unfinished=True), librechat(COMPLAINT), librechat(END)]
    },
    "Open WebUI": openwebui(ASK, {**CUT, "done_reason": "length"}, COMPLAINT, END),
    "Chatbox": {"id": "c", "name": "c", "messages": [chatbox(ASK), chatbox(CUT, finishReason="length"),
                                                     chatbox(COMPLAINT), chatbox(END)]},
    "Claude": {
        "uuid": "c", "chat_messages": [
            {"uuid": m["content"], "sender": {"user": "human"}.get(m["role"], m["role"]), "text": m["content"], **more}
            for m, more in ((ASK, {}), (CUT, {"stop_reason": "max_tokens"}), (COMPLAINT, {}), (END, {}))
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "litellm_standard_logging_payload_real.json", "openinference_phoenix_span_real.json",
        "otel_genai_logs_legacy_v136_real.jsonl",
    ],
)  # fmt: skip
def test_what_the_vendors_own_sdks_write(read_files, test_data, name):
    for conversation in read_files(test_data / "formats" / name).conversations:
        assert conversation.messages[-1].role == "assistant"
        assert conversation.finish_of(len(conversation.messages) - 1) == "length"


@pytest.mark.parametrize(("status", "finish"), [("finished_successfully", "stop"), ("in_progress", "length")])
def test_the_status_of_a_message_of_chatgpt(read, status, finish):
    chat = chatgpt((ASK, None), (CUT, None), (COMPLAINT, None))
    chat["mapping"]["1"]["message"]["status"] = status
    assert read(chat).only.finish_of(1) == finish


@pytest.mark.parametrize("name", CHATS)
def test_a_reply_inside_a_whole_chat(read, name):
    only = read(CHATS[name]).only
    assert [message.content for message in only.messages] == [Q, A, NO, B]
    assert [only.finish_of(place) for place in (1, 3)] == ["length", "stop"]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, END, COMPLAINT, CUT], "finish_reason": "length"},
        {"messages": [ASK, END, COMPLAINT], "response": choice(CUT, "length")},
        {"messages": [ASK, END, COMPLAINT], "response": A, "stop_reason": "max_tokens"},
        {"messages": [ASK, END, COMPLAINT], "response": {**CUT, "finish_reason": "length"}},
    ],
)
def test_what_a_row_says_is_about_its_last_reply(read, row):
    only = read(row).only
    assert [only.finish_of(place) for place in (1, 3)] == ["stop", "length"]


def test_of_several_choices_the_first_counts_as_it_is_the_one_that_is_read(read):
    both = [
        {"index": 0, "message": END, "finish_reason": "stop"},
        {"index": 1, "message": CUT, "finish_reason": "length"},
    ]
    told = read({"request": {"messages": [ASK]}, "response": {"choices": both}})
    assert (told.texts(), told.only.finish_of(1)) == ([("user", Q), ("assistant", B)], "stop")


def test_ingestion_counts_them(tmp_path):
    log = tmp_path / "log.jsonl"
    chats = CHATS["messages"], {"messages": [ASK, {**CUT, "finish_reason": "length"}]}, {"messages": [ASK, END]}
    log.write_bytes(b"\n".join(map(orjson.dumps, chats)))
    assert ingest([log], Store(tmp_path / "store")).cut_replies == 2


def test_json_that_a_model_wrote_says_nothing_of_its_own_end(read):
    answer = text({"status": "incomplete", "finish_reason": "length"})
    told = read({"request": {"messages": [ASK]}, "response": choice({**END, "content": answer}, "stop")})
    assert told.only.finish_of(1) == "stop"


def test_a_call_of_a_tool_that_was_cut_is_the_one_that_is_unfinished(read):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1'}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    told = read({"request": {"messages": [ASK]}, "response": choice(asked, "length")})
    assert told.only.finish_of(1) == "length"


def test_the_places_stay_right_beside_images_and_where_calls_are_joined(read):
    """Calls of a session without a history become one conversation, whose messages are numbered anew."""
    image = {"role": "user", "content": [{"type": "text", "text": Q}, {"type": "image_url", "image_url": {"url": "x"}}]}
    rows = [
        {"request": {"messages": [message]}, "response": choice(reply, reason), "session_id": "s", "timestamp": number}
        for number, (message, reply, reason) in enumerate(((image, CUT, "length"), (COMPLAINT, END, "stop")), 1)
    ]
    only = read(*(litellm_of_session(row) for row in rows)).only
    assert [(only.has_media(place), only.finish_of(place)) for place in range(4)] == [
        (True, "stop"), (False, "length"), (False, "stop"), (False, "stop"),
    ]  # fmt: skip


def litellm_of_session(row):
    return {"call_type": "acompletion", "messages": row["request"]["messages"], "response": row["response"],
            "session_id": "s", "startTime": row["timestamp"]}  # fmt: skip
