"""Messages as lists of parts: blocks of one reply, parts of a type that nobody reads."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.logs.entries import messages_of
from drift.logs.ingest import ingest
from drift.store import Store
from drift.turns import needs_media

TEXT = {"type": "text", "text": "What animal is this?"}
CITED = [  # as Anthropic and Claude's export cut a sentence
    {"type": "text", "text": "The capital is "},
    {"type": "text", "text": "Paris", "citations": [{"cited_text": "Paris"}]},
    {"type": "text", "text": ", a city."},
]


def contents(role: str, content: Any) -> list[str]:
    return [message.content for message in messages_of([{"role": role, "content": content}])]


def test_a_reply_that_is_cut_where_it_cites_is_one_text():
    assert contents("assistant", CITED) == ["The capital is Paris, a city."]
    image, thought = {"type": "image"}, {"type": "thinking", "thinking": "hm"}
    assert contents("assistant", [*CITED, image, *CITED]) == ["The capital is Paris, a city.\n[image]\n" + (
        "The capital is Paris, a city.")]  # fmt: skip
    assert contents("assistant", [TEXT, thought, TEXT]) == [f"{TEXT['text']}\n{TEXT['text']}"]
    marked = [{"type": "text", "text": "<think>hm"}, {"type": "text", "text": "</think>\n\n4"}]
    assert contents("assistant", marked) == ["4"]


@pytest.mark.parametrize("parts", [["One.", "Two."], [{"type": "text", "text": text, "citations": []} for text in (
    "One.", "", "Two.",
)]])  # fmt: skip
def test_paragraphs_of_a_reply_stay_apart(parts):
    assert contents("assistant", parts) == ["One.\nTwo."]


SOURCES = [{"type": "reference", "reference_ids": [1]}, {"type": "source-url", "url": "u"}, {"type": "tool_reference"}]


@pytest.mark.parametrize("source", SOURCES)
def test_a_reply_that_a_source_interrupts_is_one_text(source):
    paris = [{"type": "text", "text": "Paris"}, source, {"type": "text", "text": ", a city."}]
    assert contents("assistant", paris) == ["Paris, a city."]


UNSEEN = [
    *SOURCES[:2], {"type": "web_search_call", "status": "completed"}, {"type": "compaction", "content": "We spoke."},
    {"type": "agent_update", "agent_update": {"index": 0}}, {"cachePoint": {"type": "default"}},
    {"type": "cache_point", "cachePoint": {"type": "default"}}, {"type": "step-finish", "usage": {"tokens": 1}},
    {"type": "code_execution_result", "code_execution_result": "4"},
]  # fmt: skip


@pytest.mark.parametrize("part", UNSEEN)
@pytest.mark.parametrize("form", ["messages", "langchain", "langchain_saved"])
def test_a_part_that_nobody_sees_is_counted_and_leaves_no_mark(tmp_path: Path, part, form):
    parts = [{"type": "text", "text": "A cat."}, part]
    if form == "messages":
        messages: list[dict[str, Any]] = [{"role": "user", "content": "q"}, {"role": "assistant", "content": parts}]
    else:
        messages = [{"type": "human", "content": "q"}, {"type": "ai", "content": parts}]
    if form == "langchain_saved":
        messages = [{"type": message["type"], "data": message} for message in messages]
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps({"messages": messages}))
    summary = ingest([log], store)
    name = "messages.data.content." if form == "langchain_saved" else "messages.content."
    assert (summary.unread, summary.media) == ({name + part.get("type", "cachePoint"): 1}, 0)
    assert [m.content for c in store.conversations() for m in c.messages] == ["q", "A cat."]


OF_LANGCHAIN = [
    {"type": "server_tool_call", "id": "s", "name": "web_search", "args": {"q": "cats"}},
    {"type": "server_tool_result", "tool_call_id": "s", "status": "success", "output": "A cat."},
]
OF_OPENTELEMETRY = [
    {"type": "server_tool_call", "id": "s", "name": "web_search", "server_tool_call": {"q": "cats"}},
    {"type": "server_tool_call_response", "id": "s", "server_tool_call_response": "A cat."},
]


@pytest.mark.parametrize("parts", [OF_LANGCHAIN, OF_OPENTELEMETRY])
def test_a_tool_that_the_models_server_ran_is_a_call_with_its_answer(parts):
    call, answer, reply = messages_of([{"role": "assistant", "content": [*parts, TEXT]}])
    (called,) = call.tool_calls
    assert (called.id, called.function.name, called.function.arguments) == ("s", "web_search", '{"q":"cats"}')
    assert (answer.role, answer.tool_call_id, answer.content) == ("tool", "s", "A cat.")
    assert (reply.content, reply.has_media) == (TEXT["text"], False)


def test_thoughts_and_pictures_of_langchain_are_read():
    thought = {"type": "reasoning_content", "reasoning_content": {"text": "hm", "signature": "s"}}
    (reply,) = messages_of([{"role": "assistant", "content": [thought, TEXT, {"type": "image_generation_call"}]}])
    assert (reply.reasoning, reply.content) == ("hm", f"{TEXT['text']}\n[image]")


@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_parts_that_were_sent_are_texts_of_their_own(role):
    assert contents(role, [TEXT, {"type": "text", "text": "Be short."}]) == ["What animal is this?\nBe short."]


@pytest.mark.parametrize(
    ("part", "mark"),
    [
        ({"type": "media", "mime_type": "image/png", "data": "x"}, "[image]"),
        ({"type": "chart_widget", "spec": {}, "title": "t"}, "[file]"),
        ({"type": "canvas", "text": "def f(): pass"}, "[file]"),
        ({"file_id": "f"}, "[file]"),
    ],
)
@pytest.mark.parametrize("where", [0, 1])
def test_a_part_of_an_unknown_type_leaves_a_mark_and_is_counted(tmp_path: Path, part, mark, where):
    messages: list[dict[str, Any]] = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "A cat."}]
    messages[where]["content"] = [TEXT, part]
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps({"messages": messages}))
    summary = ingest([log], store)
    assert (summary.unread, summary.media) == ({f"messages.content.{part.get('type', 'file_id')}": 1}, 1)
    (conversation,) = store.conversations()
    assert conversation.messages[where].content == f"What animal is this?\n{mark}"
    assert needs_media(conversation, 1)


@pytest.mark.parametrize("part", [{"type": "step-start"}, {"type": "cache_point", "id": "c"}, {"type": "text"}, 5])
def test_a_part_that_holds_nothing_leaves_nothing(tmp_path: Path, part):
    messages = [{"role": "user", "content": [TEXT, part]}, {"role": "assistant", "content": "A cat."}]
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps({"messages": messages}))
    assert (ingest([log], store).unread, [m.content for c in store.conversations() for m in c.messages]) == (
        {}, ["What animal is this?", "A cat."],
    )  # fmt: skip


def test_the_texts_of_an_assistants_thread_are_objects():
    part = {"type": "text", "text": {"value": "Two.", "annotations": []}}
    assert contents("assistant", [part]) == contents("user", [part]) == ["Two."]
    cited = {"type": "text", "text": {"value": " and three.", "annotations": [{"type": "file_citation"}]}}
    assert contents("assistant", [part, cited]) == ["Two. and three."]
