"""The words with which vendors say why a reply ended: a limit, a user, a filter or an error leaves it unfinished."""

import pytest

ASK, CUT, COMPLAINT, END = (
    {"role": role, "content": text}
    for role, text in (
        ("user", "What is a whale?"), ("assistant", "A whale is a very"),
        ("user", "You stopped in the middle."), ("assistant", "A whale is a mammal."),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    "reason",
    [
        "content_filter", "content-filter", "ContentFilter", "FinishReason.SAFETY", "RECITATION", "cancelled",
        "canceled",
        "USER_CANCEL", "userStopped", "guardrail_intervened", "refusal", "error", "insufficient_system_resource",
    ],
)  # fmt: skip
def test_whatever_stopped_a_reply_it_is_unfinished(read, reason):
    only = read({"messages": [ASK, {**CUT, "finish_reason": reason}, COMPLAINT, END]}).only
    assert [only.finish_of(place) for place in (1, 3)] == ["length", "stop"]


@pytest.mark.parametrize("reason", ["stop", "end_turn", "STOP", "tool_calls", "stop_sequence", "eos_token", "other"])
def test_a_reply_that_ended_by_itself_is_finished(read, reason):
    assert read({"messages": [ASK, {**END, "finish_reason": reason}, COMPLAINT]}).only.finish_of(1) == "stop"


@pytest.mark.parametrize(("status", "finish"), [("cancelled", "length"), ("failed", "length"), ("completed", "stop")])
def test_the_status_of_a_response_of_openai(read, status, finish):
    item = {
        "id": "i",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "A whale is a"}],
    }
    response = {"object": "response", "id": "r", "status": status, "input": [ASK], "output": [item]}
    assert read(response).only.finish_of(1) == finish


def test_each_chunk_of_a_chat_of_ai_studio_says_why_it_ended(read):
    roles = {"user": "user", "assistant": "model"}
    chunks = [{"role": roles[m["role"]], "text": m["content"]} for m in (ASK, CUT, COMPLAINT, END)]
    chunks[1]["finishReason"], chunks[3]["finishReason"] = "MAX_TOKENS", "STOP"
    only = read({"chunkedPrompt": {"chunks": chunks}}).only
    assert [only.finish_of(place) for place in (1, 3)] == ["length", "stop"]
