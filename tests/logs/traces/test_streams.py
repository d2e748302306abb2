"""Replies that a log keeps as the events of their stream: one reply, whoever logged them and in whatever form."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.config import IngestionSettings
from drift.logs.ingest import IngestSummary, ingest
from drift.logs.traces.streams import unstreamed
from drift.records import Conversation
from drift.store import Store

ASKED, REPLY = "Sort: moon eagle", "eagle moon"
MESSAGES = [{"role": "user", "content": ASKED}]


def chunk(text: str, **more: Any) -> dict:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **more}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1716212345, "model": "m", "choices": [choice]}


def block(number: int, *deltas: dict) -> list[dict]:
    start = {"type": "content_block_start", "index": number, "content_block": {"type": "text", "text": ""}}
    events = [{"type": "content_block_delta", "index": number, "delta": delta} for delta in deltas]
    return [start, *events, {"type": "content_block_stop", "index": number}]


def said(text: str) -> dict:
    return {"type": "text_delta", "text": text}


MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
ENDED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
CITED = {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "eagle"}}
RESPONSE = {"id": "r", "object": "response", "model": "m", "status": "in_progress", "output": []}
ITEM = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": REPLY}]}
DELTAS = [{"type": "response.output_text.delta", "output_index": 0, "delta": text} for text in ("eagle ", "moon")]
STREAMS = {
    "openai": [chunk("eagle "), chunk("moon"), {**chunk(""), "choices": []}],
    "anthropic": [{"type": "message_start", "message": MESSAGE}, *block(0, said("eagle "), said("moon")), ENDED],
    "responses": [{"type": "response.created", "response": RESPONSE}, *DELTAS, {
        "type": "response.completed", "response": {**RESPONSE, "status": "completed", "output": [ITEM]}}],
    "gemini": [{"candidates": [{"content": {"parts": [{"text": text}]}}]} for text in ("eagle ", "moon")],
}  # fmt: skip


def sent(events: list[dict]) -> str:
    """The events as a server sends them."""
    named = [f"event: {event['type']}\n" if "type" in event else "" for event in events]
    return "".join(f"{name}data: {orjson.dumps(event).decode()}\n\n" for name, event in zip(named, events, strict=True))


FORMS = {
    "events": lambda events: events,
    "text": sent,
    "done": lambda events: sent(events) + "data: [DONE]\n\n",
    "lines": lambda events: "\n".join(orjson.dumps(event).decode() for event in events),
    "beside": lambda events: {"id": "x", "streamed_data": events},
    "json": lambda events: orjson.dumps({"streamed_data": events}).decode(),
}
LOGS = {
    "helicone": lambda reply: {"request_id": "r1", "request_body": {"messages": MESSAGES}, "response_body": reply},
    "litellm": lambda reply: {"id": "1", "call_type": "acompletion", "messages": MESSAGES, "response": reply},
    "native": lambda reply: {"messages": MESSAGES, "response": reply},
    "langfuse": lambda reply: {"id": "o", "type": "GENERATION", "traceId": "t", "input": MESSAGES, "output": reply},
    "exchange": lambda reply: {"request": {"messages": MESSAGES, "input": ASKED}, "response": reply},
    "mapped": lambda reply: {"q": ASKED, "a": reply},
}


def read(tmp_path: Path, row: dict) -> tuple[list[Conversation], IngestSummary]:
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(orjson.dumps(row) + b"\n")
    columns = {"request": "q", "reply": "a"} if "q" in row else {}
    summary = ingest([log], store, settings=IngestionSettings.model_validate({"map": columns, "redact": False}))
    assert summary.adds_up
    return list(store.conversations()), summary


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("api", "log"), [(api, log) for api in STREAMS for log in LOGS if (api, log) != ("gemini", "exchange")]
)
def test_a_streamed_reply_is_one_message(tmp_path, api, log, form):
    (chat,), _ = read(tmp_path, LOGS[log](FORMS[form](STREAMS[api])))
    assert [(m.role, m.content) for m in chat.messages] == [("user", ASKED), ("assistant", REPLY)]
    assert "cut_turns" not in chat.tags


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_that_cites_is_read_as_the_message_that_it_gives(tmp_path, form):
    blocks = [*block(0, said("It says")), *block(1, CITED, said(" eagles fly")), *block(2, said(". Moons do not."))]
    events = [{"type": "message_start", "message": MESSAGE}, *blocks, ENDED]
    (chat,), _ = read(tmp_path, LOGS["exchange"](FORMS[form](events)))
    assert (chat.messages[-1].content, chat.model) == ("It says eagles fly. Moons do not.", "m")


def test_paragraphs_and_calls_of_a_stream_stay_apart(tmp_path):
    use = {"type": "tool_use", "id": "t1", "name": "sort", "input": {}}
    call = [{"type": "content_block_start", "index": 2, "content_block": use},
            {"type": "content_block_delta", "index": 2, "delta": {"partial_json": '{"a":1}'}}]  # fmt: skip
    events = [{"type": "message_start", "message": MESSAGE}, *block(0, said("One.")), *block(1, said("Two.")), *call]
    (chat,), _ = read(tmp_path, LOGS["helicone"](sent(events)))
    reply = chat.messages[-1]
    assert (reply.content, reply.tool_calls[0].function.arguments) == ("One.\nTwo.", '{"a":1}')


@pytest.mark.parametrize(
    "reply",
    [
        sent([chunk("eagle "), chunk("moon", finish_reason="length")]),
        sent([chunk("eagle "), chunk("moon"), {"error": {"message": "overloaded"}}]),
        sent([chunk("eagle "), chunk("moon"), chunk(" garden")])[:-40],
        sent([{"type": "message_start", "message": MESSAGE}, *block(0, said("eagle moon")), {"type": "error"}]),
        sent([{"type": "response.created", "response": RESPONSE}, *DELTAS, {"type": "error"}]),
    ],
)
def test_a_stream_that_broke_off_is_a_reply_that_was_cut(tmp_path, reply):
    (chat,), _ = read(tmp_path, LOGS["helicone"](reply))
    assert (chat.messages[-1].content, chat.tags["cut_turns"]) == (REPLY, "1")


def test_of_two_choices_in_one_stream_the_first_is_the_reply(tmp_path):
    events = [chunk("eagle "), chunk("garden", index=1), chunk("moon"), chunk(" sun", index=1)]
    (chat,), _ = read(tmp_path, LOGS["litellm"](sent(events)))
    assert chat.messages[-1].content == REPLY


@pytest.mark.parametrize("log", ["helicone", "litellm", "native", "langfuse", "mapped"])
def test_a_stream_of_an_unknown_api_is_refused_by_name(tmp_path, log):
    kept, summary = read(tmp_path, LOGS[log](sent([{"type": "content-delta", "x": 1}, {"type": "end"}])))
    assert (kept, summary.quarantined) == ([], {"bad_content": 1})


@pytest.mark.parametrize("text", [
    "data: 5 May\nevent: a concert", "event: a concert", 'data: {"a": 1}', 
    "Send this:\n" + sent([chunk("a"), chunk("b")]), '{"answer": "Paris"}\n{"answer": "Rome"}', "[1, 2]", "",
])  # fmt: skip
def test_other_texts_stay_as_they_are(text):
    assert unstreamed(text) == text


BEGUN = {"type": "function_call", "id": "f", "call_id": "c", "name": "sort", "arguments": ""}
CUT = [
    ([{"type": "response.output_item.added", "output_index": 0, "item": BEGUN}, *(
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": d} for d in ('{"a"', ":1"))],
     "", [("c", "sort", '{"a":1')]),
    ([*DELTAS, {"type": "response.output_item.added", "output_index": 1, "item": BEGUN}], REPLY, [("c", "sort", "{}")]),
    ([{"type": "response.refusal.delta", "output_index": 0, "delta": text} for text in ("I ", "cannot")],
     "I cannot", []),
]  # fmt: skip


@pytest.mark.parametrize(("events", "text", "calls"), CUT)
def test_a_stream_that_breaks_off_in_a_call_or_a_refusal_is_a_cut_reply(tmp_path: Path, events, text, calls):
    events = [{"type": "response.created", "response": RESPONSE}, *events, {"type": "error", "message": "x"}]
    (only,), _ = read(tmp_path, {"request": {"input": ASKED}, "response": events})
    (reply,) = only.messages[1:]
    assert (reply.content, [(c.id, c.function.name, c.function.arguments) for c in reply.tool_calls]) == (text, calls)
    assert only.tags["cut_turns"] == "1"
