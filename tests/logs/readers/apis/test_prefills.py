"""Requests that end with the beginning of the reply, which the model only continues."""

import orjson
import pytest

from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.pairs.disliked import prompt_items
from drift.records import PromptItem
from drift.store import Store

ASKED, BEGUN = {"role": "user", "content": "Who is it, as JSON?"}, {"role": "assistant", "content": "{"}
WHOLE = '{"name": "Ann"}'
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": '"name": "Ann"}'}]}
ANTHROPIC = {"request": {"model": "claude-x", "messages": [ASKED, BEGUN]}, "response": MESSAGE}
CONVERSE = {
    "modelId": "anthropic.claude-x",
    "messages": [{"role": m["role"], "content": [{"text": m["content"]}]} for m in (ASKED, BEGUN)],
    "output": {"message": {"role": "assistant", "content": [{"text": '"name": "Ann"}'}]}},
}
TRACED = {
    "id": "g", "type": "GENERATION", "traceId": "t", "startTime": "2024-05-01T10:00:00Z", "input": [ASKED, BEGUN],
    "output": MESSAGE,
}  # fmt: skip
OPENAI = {
    "request": {"messages": [ASKED, BEGUN], "model": "gpt-x"},
    "response": {
        "object": "chat.completion",
        "id": "c",
        "choices": [{"message": {"role": "assistant", "content": "Ann"}}],
    },
}


@pytest.mark.parametrize("row", [ANTHROPIC, CONVERSE, TRACED], ids=["anthropic", "bedrock", "langfuse"])
def test_the_reply_is_one_message_with_its_beginning(read, row):
    assert read(row).texts() == [("user", ASKED["content"]), ("assistant", WHOLE)]


def test_a_later_call_holds_the_whole_reply(read):
    later = {"messages": [ASKED, {"role": "assistant", "content": WHOLE}, {"role": "user", "content": "Thanks!"}]}
    told = read(ANTHROPIC, {"request": later, "response": {**MESSAGE, "id": "n"}})
    assert [text for _, text in told.texts()][:3] == [ASKED["content"], WHOLE, "Thanks!"]


def test_another_api_answers_with_a_message_of_its_own(read):
    assert [text for _, text in read(OPENAI).texts()] == [ASKED["content"], "{", "Ann"]


def test_a_thumb_down_makes_an_item(tmp_path):
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps({**ANTHROPIC, "feedback": "down"}))
    ingest([log], store)
    assert label_store(store).labels == {"DSAT": 1}
    (item,) = prompt_items(store.labelled(), 0.5)
    assert isinstance(item, PromptItem)
    assert item.rejected is not None
    assert (item.prompt[-1].content, item.rejected.content) == (ASKED["content"], WHOLE)
