"""A user changes their mind: of two judgements of one kind about one reply the later counts, wherever it stands."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from chats import bot, user
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.store import Store

TIMES = ["2024-05-01T10:01:00Z", "2024-05-01T10:05:00Z", "2024-05-01T10:09:00Z"]
CALL = {"startTime": "2024-05-01T10:00:00Z", "input": [user("2+2?")], "output": bot("4"), "sessionId": "s"}
SPAN = {
    "openinference.span.kind": "LLM",
    "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "2+2?",
    "llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": "4",
}  # fmt: skip
NODES = {
    "q": {"parent": None, "message": {"author": {"role": "user"}, "content": {"parts": ["2+2?"]}}},
    "a": {"parent": "q", "message": {"author": {"role": "assistant"}, "content": {"parts": ["4"]}}},
}
PARTS = {"user": "2+2?", "assistant": "4"}

CHATS: dict[str, list[dict[str, Any]]] = {
    "langfuse": [{"id": "a", "type": "GENERATION", "traceId": "t", **CALL}],
    "langsmith": [
        {"id": "a", "run_type": "llm", "inputs": {"messages": [user("2+2?")]}, "outputs": {"messages": [bot("4")]}}
    ],
    "openinference": [{"name": "chat", "context": {"trace_id": "t", "span_id": "a"}, "attributes": SPAN}],
    "weave": [
        {"id": "a", "op_name": "x/op/chat.completions", "inputs": {"messages": [user("2+2?")]}, "output": bot("4")}
    ],
    "chatgpt": [{"conversation_id": "c", "current_node": "a", "mapping": NODES}],
    "ai_sdk_table": [
        {"id": role[0], "chatId": "c", "role": role, "parts": [{"type": "text", "text": text}]}
        for role, text in PARTS.items()
    ],
    "flowise": [
        {"id": role[0], "chatId": "c", "role": "apiMessage" if role == "assistant" else "userMessage", "content": text}
        for role, text in PARTS.items()
    ],
}


def judged(form: str, is_up: bool, when: str) -> dict[str, Any]:
    return {
        "langfuse": {
            "name": "user-feedback", "traceId": "t", "value": int(is_up), "dataType": "BOOLEAN", "timestamp": when,
        },
        "langsmith": {"run_id": "a", "key": "user_feedback", "score": is_up, "created_at": when},
        "openinference": {
            "span_id": "a", "annotator_kind": "HUMAN", "name": "user feedback", "created_at": when,
            "result": {"label": "up" if is_up else "down"},
        },
        "weave": {
            "feedback_type": "wandb.reaction.1", "weave_ref": "weave:///e/p/call/a", "created_at": when,
            "payload": {"emoji": "👍" if is_up else "👎"},
        },
        "chatgpt": {
            "id": "a", "conversation_id": "c", "rating": "thumbsUp" if is_up else "thumbsDown", "create_time": when,
        },
        "ai_sdk_table": {"chatId": "c", "messageId": "a", "isUpvoted": is_up, "createdAt": when},
        "flowise": {"messageId": "a", "rating": "THUMBS_UP" if is_up else "THUMBS_DOWN", "createdDate": when},
    }[form]  # fmt: skip


@pytest.mark.parametrize("step", [1, -1], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("verdicts", [(False, True), (True, False), (True, False, True)], ids=str)
@pytest.mark.parametrize("form", CHATS)
def test_the_later_thumb_counts(tmp_path: Path, form: str, verdicts: tuple[bool, ...], step: int):
    thumbs = [judged(form, is_up, when) for is_up, when in zip(verdicts, TIMES, strict=False)][::step]
    files = {"chats.jsonl": CHATS[form], "thumbs.jsonl": thumbs}
    for name, rows in files.items():
        (tmp_path / name).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    store = Store(tmp_path / "store")
    summary = ingest([tmp_path / name for name in files], store)
    assert (summary.adds_up, summary.filtered_by) == (True, {"joined_as_evidence": len(thumbs)})
    assert dict(summary.unread) == {}
    assert label_store(store).labels == {"SAT" if verdicts[-1] else "DSAT": 1}


def test_without_times_the_thumb_that_stands_later_counts(tmp_path: Path):
    thumbs = [judged("langfuse", is_up, "") for is_up in (True, False, True)]
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in [*thumbs, *CHATS["langfuse"]]))
    ingest([log], store)
    assert label_store(store).labels == {"SAT": 1}
