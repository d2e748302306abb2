"""A chat of 10,000 messages in one row (or in one file) of each format: nothing is lost, in bounded time."""

import json
import time

import pytest

from drift.logs.ingest import ingest
from drift.store import Store

N = 10_000
SAID = [f"That is wrong. Sort {i} b a" if i % 2 == 0 else f"a b {i}" for i in range(N)]
ROLES = ("user", "assistant")
CHAT = [{"role": ROLES[i % 2], "content": text} for i, text in enumerate(SAID)]
LAST = CHAT[-1]
OPENAI_REPLY = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": LAST}]}


def each(make) -> list[dict]:
    """`make(i, role number, text)` for every message."""
    return [make(i, i % 2, text) for i, text in enumerate(SAID)]


def clock(i: int) -> str:
    return f"2025-01-01T{i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d}Z"


ROWS = {
    "messages": [{"id": "c", "messages": CHAT}],
    "sharegpt": [{"conversations": each(lambda i, r, t: {"from": ("human", "gpt")[r], "value": t})}],
    "lmsys": [{"conversation_id": "c", "conversation": CHAT}],
    "wildchat": [{"conversation_hash": "c", "conversation": CHAT, "hashed_ip": "i"}],
    "alpaca": [{"instruction": SAID[-2], "output": SAID[-1],
                "history": [SAID[i : i + 2] for i in range(0, N - 2, 2)]}],
    "preference": [{"prompt": CHAT[:-1], "chosen": [{"role": "assistant", "content": "b"}], "rejected": [LAST]}],
    "wildfeedback": each(lambda i, r, t: {"UtterranceId": i, "Role": ("User", "Agent")[r], "Content": t}),
    "openwebui": [{"id": "c", "user_id": "u", "chat": {"history": {"currentId": str(N - 1), "messages": {
        str(i): {"id": str(i), "parentId": str(i - 1) if i else None, "role": ROLES[i % 2], "content": SAID[i]}
        for i in range(N)
    }}}}],
    "chatgpt": [{"title": "t", "create_time": 1.0, "mapping": {str(i): {
        "id": str(i), "parent": str(i - 1) if i else None, "children": [str(i + 1)] if i < N - 1 else [],
        "message": {"id": str(i), "author": {"role": ROLES[i % 2]}, "content": {"content_type": "text", "parts": [t]}},
    } for i, t in enumerate(SAID)}}],
    "claude": [{"uuid": "c", "name": "n", "chat_messages": each(lambda i, r, t: {
        "uuid": str(i), "text": t, "sender": ("human", "assistant")[r],
        **({"parent_message_uuid": str(i - 1)} if i else {}),
    })}],
    "dify": [{"id": f"m{i}", "conversation_id": "d", "query": SAID[2 * i], "answer": SAID[2 * i + 1], "inputs": {},
              "created_at": 1716212345 + i} for i in range(N // 2)],
    "flowise": each(lambda i, r, t: {"id": str(i), "role": ("userMessage", "apiMessage")[r], "chatId": "c",
                                     "chatflowid": "f", "content": t, "createdDate": clock(i)}),
    "librechat": [{"conversationId": "c", "messages": each(lambda i, r, t: {
        "messageId": str(i + 1), "parentMessageId": str(i), "isCreatedByUser": r == 0, "text": t})}],
    "chatbox": [{"id": "s", "name": "n", "messages": each(lambda i, r, t: {
        "id": str(i), "role": ROLES[r], "contentParts": [{"type": "text", "text": t}]})}],
    "oasst": each(lambda i, r, t: {"message_id": str(i), "parent_id": str(i - 1) if i else None, "text": t,
                                   "role": ("prompter", "assistant")[r], "message_tree_id": "0"}),
    "langchain": [{"thread_id": "0", "messages": each(lambda i, r, t: {"type": ("human", "ai")[r], "content": t})}],
    "langchain_table": each(lambda i, r, t: {"session_id": "s", "id": i + 1, "message": {
        "type": ("human", "ai")[r], "data": {"type": ("human", "ai")[r], "content": t}}}),
    "ai_sdk": [{"id": "c", "messages": each(lambda i, r, t: {
        "id": str(i), "role": ROLES[r], "parts": [{"type": "text", "text": t}]})}],
    "langfuse": [{"id": "g", "type": "GENERATION", "traceId": "t", "input": CHAT[:-1], "output": LAST}],
    "openai": [{**OPENAI_REPLY, "messages": CHAT[:-1]}],
    "anthropic": [{"request": {"model": "m", "messages": CHAT[:-1]}, "response": {
        "type": "message", "role": "assistant", "content": [{"type": "text", "text": SAID[-1]}]}}],
    "gemini": [{"contents": each(lambda i, r, t: {"role": ("user", "model")[r], "parts": [{"text": t}]})}],
    "litellm": [{"id": "1", "call_type": "acompletion", "messages": CHAT[:-1], "response": OPENAI_REPLY}],
    "langsmith": [{"id": "1", "run_type": "llm", "outputs": {"generations": [[{"text": SAID[-1]}]]}, "inputs": {
        "messages": [each(lambda i, r, t: {"id": [("HumanMessage", "AIMessage")[r]], "kwargs": {"content": t}})[:-1]]
    }}],
    "otel": [{"name": "chat", "attributes": {
        "gen_ai.operation.name": "chat", "gen_ai.output.messages": json.dumps([LAST]),
        "gen_ai.input.messages": json.dumps(CHAT[:-1])}}],
    "helicone": [{"request_id": "r", "request_body": {"messages": CHAT[:-1]}, "response_body": OPENAI_REPLY}],
    "batch": [{"custom_id": "1", "body": {"messages": CHAT[:-1]}},
              {"custom_id": "1", "response": {"status_code": 200, "body": OPENAI_REPLY}}],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_chat_of_ten_thousand_messages(name, tmp_path):
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]), encoding="utf-8")
    started = time.process_time()
    assert ingest([log], store).accepted == 1
    assert time.process_time() - started < 20
    assert [message.content for message in next(iter(store.conversations())).messages] == SAID
