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


def batch(body: str, messages: list, answer: dict, **settings) -> dict[str, list]:
    """The two files of a batch: `body`, where the request stands."""
    asked = {"custom_id": "1", body: {"messages": messages, **settings}}
    return {"requests": [asked | ({"url": "/v1/chat/completions"} if body == "body" else {})], "replies": [answer]}


OF_ANTHROPIC = {"custom_id": "1", "result": {"type": "succeeded", "message": {**MESSAGE, "stop_reason": "max_tokens"}}}
OF_OPENAI = {"custom_id": "1", "response": {"status_code": 200, "body": OPENAI["response"]}}
GO_ON = {"continue_final_message": True}


def test_the_two_files_of_a_batch_give_one_message(read):
    system = {"system": "Be short."}
    told = read(**batch("params", [ASKED, BEGUN], OF_ANTHROPIC, **system))
    assert told.texts() == [("system", "Be short."), ("user", ASKED["content"]), ("assistant", WHOLE)]
    assert told.only.finish_of(2) == "length"
    backwards = dict(reversed(batch("params", [ASKED, BEGUN], OF_ANTHROPIC, **system).items()))
    assert read(**backwards).texts() == told.texts()
    told = read(**batch("params", [ASKED, BEGUN, {"role": "user", "content": "Go on."}], OF_ANTHROPIC))
    assert [text for _, text in told.texts()][1:] == ["{", "Go on.", '"name": "Ann"}']


def test_a_beginning_without_its_reply_is_no_chat(read):
    files = batch("params", [ASKED, BEGUN], OF_ANTHROPIC)
    assert read(requests=files["requests"]).reasons == ["not_a_chat"]


@pytest.mark.parametrize("marked", [GO_ON, "prefix", "partial"], ids=["vllm", "deepseek", "kimi"])
def test_another_api_that_is_asked_to_go_on_gives_one_message(read, marked):
    settings = marked if isinstance(marked, dict) else {}
    begun = BEGUN if settings else {**BEGUN, marked: True}
    request = {"messages": [ASKED, begun], **settings}
    whole = [("user", ASKED["content"]), ("assistant", "{Ann")]
    assert read({"request": request, "response": OPENAI["response"]}).texts() == whole
    assert read({**request, **OPENAI["response"]}).texts() == whole
    assert read(**batch("body", [ASKED, begun], OF_OPENAI, **settings)).texts() == whole
    assert read({**TRACED, "input": request, "output": {"role": "assistant", "content": "Ann"}}).texts() == whole
    parameters = {"extra_body": settings} if settings else {}
    lite = {"call_type": "completion", "messages": request["messages"], "model_parameters": parameters}
    assert read({**lite, "response": OPENAI["response"]}).texts() == whole


@pytest.mark.parametrize("said", ["Ann", "The answer: Ann"], ids=["only the rest", "the whole reply"])
def test_a_beginning_that_the_reply_repeats_stands_once(read, said):
    begun = {"role": "assistant", "content": "The answer: ", "prefix": True}
    response = {**OPENAI["response"], "choices": [{"message": {"role": "assistant", "content": said}}]}
    assert read({"request": {"messages": [ASKED, begun]}, "response": response}).texts()[1:] == [
        ("assistant", "The answer: Ann")
    ]


def test_another_api_in_a_batch_answers_with_a_message_of_its_own(read):
    assert [text for _, text in read(**batch("body", [ASKED, BEGUN], OF_OPENAI)).texts()] == [
        ASKED["content"],
        "{",
        "Ann",
    ]


def test_a_thumb_down_makes_an_item(tmp_path):
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps({**ANTHROPIC, "feedback": "down"}))
    ingest([log], store)
    assert label_store(store).labels == {"DSAT": 1}
    (item,) = prompt_items(store.labelled(), 0.5)
    assert isinstance(item, PromptItem)
    assert item.rejected is not None
    assert (item.prompt[-1].content, item.rejected.content) == (ASKED["content"], WHOLE)
