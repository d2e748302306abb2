"""Requests with their responses: Anthropic's messages, OpenAI's responses, batches, and the thumbs beside them."""

import json

import pytest

Q, A, NO, B = "Name a red fruit.", "Banana.", "That is not red.", "Cherry."
USER, WRONG, COMPLAINT = ({"role": r, "content": c} for r, c in (("user", Q), ("assistant", A), ("user", NO)))
REQUEST = {"model": "claude-x", "system": "Be brief.", "messages": [USER, WRONG, COMPLAINT], "max_tokens": 9}
CHAT = [("system", "Be brief."), ("user", Q), ("assistant", A), ("user", NO), ("assistant", B)]


def message(*blocks, **more) -> dict:
    content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1", "content": content, **more}


EVENTS = [
    {"type": "message_start", "message": message()},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Cher"}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ry."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_stop"},
]
ANTHROPIC = {
    "request and response": {"request": REQUEST, "response": message(B)},
    "the request's messages beside the response": {**REQUEST, "response": message(B)},
    "one object": {**REQUEST, **message(B)},
    "system in blocks": {"request": {**REQUEST, "system": message("Be brief.")["content"]}, "response": message(B)},
    "the events of a stream": {"request": REQUEST, "response": EVENTS},
}  # fmt: skip


@pytest.mark.parametrize("shape", ANTHROPIC)
def test_anthropics_requests_and_responses(read, shape):
    told = read({**ANTHROPIC[shape], "created_at": "2025-06-01T10:00:00Z", "user_id": "ann"})
    assert told.formats == ["anthropic"]
    assert told.texts() == CHAT
    assert (told.only.model, told.only.user_key) == ("claude-x-1", "ann")
    assert told.only.started_at == "2025-06-01T10:00:00+00:00"


def test_the_tools_of_a_request_are_kept(read):
    schema = {"name": "search", "description": "Searches.", "input_schema": {"type": "object"}}
    function = {"name": "search", "description": "Searches.", "parameters": {"type": "object"}}
    flat = {"type": "function", **function}
    openai = {"request": {**asked()["body"], "tools": [{"type": "function", "function": function}]}}
    rows = [
        {"request": {**REQUEST, "tools": [schema]}, "response": message(B)},
        response(input=Q, tools=[flat]),
        {**openai, "response": replied()["response"]["body"]},
    ]
    for row in rows:
        assert json.loads(read(row).only.tools or "") == [{"type": "function", "function": function}]


def test_calls_that_continue_each_other_are_one_conversation(read):
    first = {"request": {"messages": [USER]}, "response": message(A)}
    told = read(first, {"request": {"messages": [USER, WRONG, COMPLAINT]}, "response": message(B)})
    assert told.texts() == CHAT[1:]
    assert told.merged == 1


def test_a_thumb_beside_an_exchange_judges_its_reply_also_if_the_chat_goes_on(read):
    first = {"request": {"messages": [USER]}, "response": message(A), "user_feedback": "thumbs_down"}
    more = {"messages": [USER, WRONG, COMPLAINT]}
    told = read(
        first, {"request": more, "response": message(B, id="msg_2"), "feedback": {"thumb": "up", "comment": "ok"}}
    )
    assert [(r.reply_index, r.kind, r.value, r.comment) for r in told.only.ratings] == [
        (1, "thumb", -1.0, None),
        (3, "thumb", 1.0, "ok"),
    ]
    assert told.reasons == ["joined_as_evidence"] * 2


@pytest.mark.parametrize("choice", [{"message": WRONG}, {"index": 0, "message": WRONG}])
def test_a_completion_that_does_not_name_its_object(read, choice):
    """As many servers and gateways write it; of several choices, the first is the reply."""
    second = {"index": 1, "message": {"role": "assistant", "content": B}}
    told = read({"request": {"messages": [USER]}, "response": {"choices": [choice, second]}})
    assert (told.formats, told.texts()) == (["openai"], [("user", Q), ("assistant", A)])


def response(name="resp_1", text=A, before=None, **more) -> dict:
    output = [{"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]
    row = {"id": name, "object": "response", "created_at": 1716212345, "model": "gpt-x", "output": output}
    return {**row, "previous_response_id": before, **more}


@pytest.mark.parametrize(
    "given",
    [Q, [USER], [{"type": "message", **USER}], [{"role": "user", "content": [{"type": "input_text", "text": Q}]}]],
)
def test_a_response_with_its_input(read, given):
    told = read(response(input=given, instructions="Be brief."))
    assert told.formats == ["openai_responses"]
    assert told.texts() == [("system", "Be brief."), ("user", Q), ("assistant", A)]
    assert (told.only.model, told.only.started_at) == ("gpt-x", "2024-05-20T13:39:05+00:00")
    assert read({"request": {"input": given}, "response": response()}).texts() == [("user", Q), ("assistant", A)]


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_response_that_continues_another_gets_its_history(read, newest_first):
    rows = [
        response("r1", A, input=Q, instructions="Old."),
        response("r2", B, "r1", input=NO, instructions="Be brief."),
        response("r3", "Tomato.", "r2", input="Another one?"),
    ]
    told = read(*(rows[::-1] if newest_first else rows))
    assert told.texts() == [*CHAT[1:], ("user", "Another one?"), ("assistant", "Tomato.")]
    assert told.merged == 2


def test_a_response_whose_history_is_elsewhere_is_read_alone(read):
    rows = [response("r3", "Tomato.", "r2", input="Another one?"), response("r2", B, "r1", input=NO)]
    assert read(*rows).texts() == [*CHAT[3:], ("user", "Another one?"), ("assistant", "Tomato.")]


def test_responses_of_one_conversation_are_joined(read):
    of = {"conversation": {"id": "conv_1"}}
    told = read(response("r1", A, input=Q, **of), response("r2", B, input=NO, created_at=1716212349, **of))
    assert told.texts() == CHAT[1:]


def asked(name="req-1", text=Q) -> dict:
    body = {"model": "gpt-x", "messages": [{"role": "user", "content": text}]}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def replied(name="req-1", text=A, **more) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1716212345, "model": "gpt-x-1", "choices": [choice]}
    return {"id": "b", "custom_id": name, "response": {"status_code": 200, "body": body}, "error": None, **more}


@pytest.mark.parametrize("names", [("in", "out"), ("out", "in")])
def test_the_two_files_of_a_batch_are_joined_in_any_order(read, names):
    rows = {"in": [asked(), asked("req-2", NO)], "out": [replied("req-2", B), replied()]}
    told = read(**{name: rows[name] for name in names})
    assert told.formats == ["batch", "batch"]
    assert sorted([message.content for message in one.messages] for one in told.conversations) == [[Q, A], [NO, B]]
    assert {one.model for one in told.conversations} <= {"gpt-x", "gpt-x-1"}


def test_anthropics_batches(read):
    told = read(
        {"custom_id": "1", "params": REQUEST},
        {"custom_id": "1", "result": {"type": "succeeded", "message": message(B)}},
    )
    assert told.texts() == CHAT


def test_half_a_batch_has_a_name(read):
    assert read(asked()).reasons == ["not_a_chat"]
    assert read(replied()).reasons == ["no_user_turn"]
    failed = {"id": "b", "custom_id": "req-1", "response": None, "error": {"code": "x"}}
    assert sorted(read(asked(), failed).reasons) == ["not_a_chat", "not_a_chat"]
    assert read(asked(), asked(), replied()).reasons == ["duplicate_keys"]
    embedding = {**asked(), "url": "/v1/embeddings"}
    assert read(embedding).reasons == ["not_a_chat"]


@pytest.mark.parametrize(
    ("row", "name", "reason"),
    [
        ({"response": message(B)}, "anthropic", "no_messages"),
        ({"request": {"messages": []}, "response": message(B)}, "anthropic", "no_messages"),
        ({"request": {"messages": "x" * 5_000_000}, "response": message(B)}, "anthropic", None),
        ({"request": {"messages": [5]}, "response": message(B)}, "anthropic", None),
        (
            {"request": {"messages": [{"role": "critic", "content": "x"}]}, "response": message(B)},
            "anthropic",
            "unknown_role",
        ),
        ({"request": REQUEST, "response": 5}, "anthropic", None),
        ({"object": "response", "output": []}, "openai_responses", "no_messages"),
        ({"object": "response", "output": None, "input": Q}, "openai_responses", None),
        ({"object": "response", "output": 5, "input": 5}, "openai_responses", "no_messages"),
        ({"object": "list"}, "openai_responses", "no_messages"),
        ({"custom_id": None, "body": {}, "url": ""}, "batch", "bad_content"),
        ({"custom_id": "x", "body": None, "url": "/v1/responses"}, "batch", "no_messages"),
        ({"custom_id": "x", "response": {"body": {}}}, "batch", "no_messages"),
    ],
)
def test_bad_input_has_a_named_outcome(read, row, name, reason):
    told = read(row, format_name=name)
    assert len(told.conversations) + len(told.rejects) == 1
    assert told.reasons == ([reason] if reason else told.reasons)
