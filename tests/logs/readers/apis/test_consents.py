"""A consent in the metadata of a request, or in what a tool calls its metadata."""

import pytest

from chats import A, Q, bot, user

NO = {"consent": "no"}
COMPLETION = {"object": "chat.completion", "id": "c", "choices": [{"message": bot(A), "finish_reason": "stop"}]}
ITEM = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": A}]}
RESPONSE = {"object": "response", "id": "r", "output": [ITEM]}
CLAUDE = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "text", "text": A}]}
GEMINI = {"candidates": [{"content": {"role": "model", "parts": [{"text": A}]}}]}
CONVERSE = {
    "schemaType": "ModelInvocationLog", "operation": "Converse", "requestMetadata": NO,
    "input": {"inputBodyJson": {"messages": [{"role": "user", "content": [{"text": Q}]}]}},
    "output": {"outputBodyJson": {"output": {"message": {"role": "assistant", "content": [{"text": A}]}}}},
}  # fmt: skip
LITELLM = {"call_type": "acompletion", "id": "l", "messages": [user(Q)], "response": COMPLETION}
SPENT = {"call_type": "acompletion", "request_id": "l", "messages": {}, "response": COMPLETION}
ROWS = {
    "openai": {"request": {"messages": [user(Q)], "metadata": NO}, "response": COMPLETION},
    "openai, on the completion": {"messages": [user(Q)], "response": {**COMPLETION, "metadata": NO}},
    "openai_responses": {"request": {"input": Q}, "response": {**RESPONSE, "metadata": NO}},
    "openai_responses, in the request": {"request": {"input": Q, "metadata": NO}, "response": RESPONSE},
    "anthropic": {"request": {"messages": [user(Q)], "metadata": NO}, "response": CLAUDE},
    "gemini": {"request": {"contents": [{"role": "user", "parts": [{"text": Q}]}], "labels": NO}, "response": GEMINI},
    "bedrock": CONVERSE,
    "helicone": {"request_id": "h", "request_body": {"messages": [user(Q)]}, "response_body": COMPLETION,
                 "request_properties": NO},
    "litellm": {**LITELLM, "metadata": {"requester_metadata": NO}},
    "litellm, for its spend logs": {**LITELLM, "metadata": {"spend_logs_metadata": NO}},
    "litellm, spend logs": {**SPENT, "proxy_server_request": {"body": {"messages": [user(Q)], "metadata": NO}}},
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_consent_beside_the_messages_of_a_request_is_a_tag(read, name):
    told = read(ROWS[name])
    assert (told.formats, told.texts()) == ([name.partition(",")[0]], [("user", Q), ("assistant", A)])
    assert told.only.tags["consent"] == "no"


def test_a_consent_in_the_requests_of_a_batch_is_a_tag(read):
    body = {"messages": [user(Q)], "metadata": NO}
    asked = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    answered = {"id": "b", "custom_id": "1", "response": {"status_code": 200, "body": COMPLETION}, "error": None}
    assert read(requests=[asked], replies=[answered]).only.tags["consent"] == "no"


def test_a_request_and_its_row_that_contradict_each_other_consent_to_nothing(read):
    assert read({**ROWS["openai"], "consent": "yes"}).only.tags["consent"] == "yes, no"


@pytest.mark.parametrize("place", ["requester_metadata", "spend_logs_metadata"])
@pytest.mark.parametrize("key", ["session_id", "conversation_id"])
def test_what_a_caller_of_litellm_sends_names_the_session(read, place, key):
    told = read({**LITELLM, "metadata": {place: {key: "s"}}})
    assert (told.only.source_id or "").startswith("s/")
