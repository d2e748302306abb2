"""Applications that change the history that they send: shorten its replies, or take the marks of sources out."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from chats import bot, user
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.store import Store

TURNS = [("a poem?", "rose " * 30), ("a longer one?", "violet " * 30), ("thanks, perfect!", "welcome " * 30)]


def generation(name: str, given: list[Any], reply: str, at: int) -> dict[str, Any]:
    row = {"id": name, "type": "GENERATION", "traceId": f"t-{name}", "sessionId": "s", "userId": "u"}
    return {**row, "startTime": f"2024-05-01T10:{at:02}:00.000Z", "input": given, "output": bot(reply)}


def shortened() -> list[dict[str, Any]]:
    history, rows = [], []
    for n, (asked, reply) in enumerate(TURNS):
        rows.append(generation(f"g{n}", [*history, user(asked)], reply, n))
        history += [user(asked), bot(reply[:50])]
    return rows


def read(tmp_path: Path, rows: list[dict[str, Any]]) -> Store:
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert ingest([log], store).adds_up
    return store


@pytest.mark.parametrize("step", [1, -1])
def test_a_reply_that_the_application_shortened_was_not_asked_for_again(tmp_path: Path, step: int):
    store = read(tmp_path, shortened()[::step])
    assert [chat.ratings for chat in store.conversations()] == [()] * 3
    assert "DSAT" not in label_store(store).labels


@pytest.mark.parametrize("step", [1, -1])
def test_a_second_reply_to_a_request_after_a_shortened_history_is_one(tmp_path: Path, step: int):
    rows = shortened()
    rows.append(generation("again", rows[1]["input"], "another poem", 9))
    store = read(tmp_path, rows[::step])
    given_up = [c.messages[r.reply_index].content for c in store.conversations() for r in c.ratings]
    assert given_up == [TURNS[1][1]]


@pytest.mark.parametrize("mark", ["【3†source】", "\ue200cite\ue202turn0search0\ue201", " [cite: 1]"])
@pytest.mark.parametrize("who", [{}, {"sessionId": None}, {"sessionId": None, "userId": None}], ids=str)
def test_a_history_without_marks_of_sources_is_the_same_chat(tmp_path: Path, mark: str, who: dict[str, Any]):
    asked = user("capital of Australia?")
    first = generation("1", [asked], f"Canberra{mark}.", 1) | who
    second = generation("2", [asked, bot("Canberra."), user("Thanks, perfect!")], "welcome", 2) | who
    (chat,) = read(tmp_path, [first, second]).conversations()
    assert [message.content for message in chat.messages] == [
        "capital of Australia?", "Canberra.", "Thanks, perfect!", "welcome",
    ]  # fmt: skip
    assert chat.ratings == ()


def test_a_judgement_of_the_reply_with_marks_is_of_the_reply_in_the_history(tmp_path: Path):
    asked = user("capital of Australia?")
    first = generation("1", [asked], "Canberra【3†source】.", 1)
    second = generation("2", [asked, bot("Canberra."), user("and of Austria?")], "Vienna", 2)
    thumb = {"name": "user-feedback", "observationId": "1", "value": 0, "dataType": "BOOLEAN", "source": "API"}
    (chat,) = read(tmp_path, [thumb, first, second]).conversations()
    assert [(r.reply_index, r.value) for r in chat.ratings] == [(1, -1.0)]
