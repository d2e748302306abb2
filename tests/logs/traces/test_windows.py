"""Applications that send only the last messages of a chat: each call begins in the middle of what was said."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from chats import bot, user
from drift.feedback.label import label_store
from drift.logs.ingest import IngestSummary, ingest
from drift.records import Conversation
from drift.store import Store

TURNS = [("one?", "1"), ("two?", "2"), ("three?", "3"), ("No, that is wrong", "4"), ("five?", "5"), ("thanks!", "6")]
ALL = [text for turn in TURNS for text in turn]


def generation(name: str, given: list[Any], reply: Any, at: int, **fields: Any) -> dict[str, Any]:
    row = {"id": name, "type": "GENERATION", "traceId": f"t-{name}", "sessionId": "s", "userId": "u"}
    return {**row, "startTime": f"2024-05-01T10:{at:02}:00.000Z", "input": given, "output": reply, **fields}


def windows(size: int, turns: list[tuple[str, str]] = TURNS, **fields: Any) -> list[dict[str, Any]]:
    said, rows = [], []
    for n, (asked, reply) in enumerate(turns):
        said.append(user(asked))
        rows.append(generation(f"g{n}", said[-size:], bot(reply), n, **fields))
        said.append(bot(reply))
    return rows


def read(tmp_path: Path, rows: list[dict[str, Any]]) -> tuple[Store, IngestSummary]:
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = ingest([log], store)
    assert summary.adds_up
    assert ingest([log], store).duplicate == summary.accepted + summary.duplicate
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows[::-1]))
    ingest([log], backwards := Store(tmp_path / "backwards"))
    assert seen(backwards.conversations()) == seen(store.conversations())
    return store, summary


def seen(chats: Any) -> list[Any]:
    return sorted((c.conversation_id, texts(c), c.ratings) for c in chats)


def texts(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.messages]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_calls_with_a_window_are_one_conversation(tmp_path: Path, size: int):
    store, summary = read(tmp_path, windows(size))
    (chat,) = store.conversations()
    assert (texts(chat), chat.ratings) == (ALL, ())
    assert (summary.accepted, summary.duplicate) == (1, 5)
    assert label_store(store).labels == {"NEUTRAL": 3, "DSAT": 1, "SAT": 1}


def test_it_keeps_its_identity_when_it_grows(tmp_path: Path):
    store, _ = read(tmp_path, windows(4, TURNS[:2]))
    (tmp_path / "more").mkdir()
    grown, _ = read(tmp_path / "more", windows(4))
    assert [c.conversation_id for c in store.conversations()] == [c.conversation_id for c in grown.conversations()]


def test_a_system_message_with_a_summary_of_what_was_left_out_does_not_keep_them_apart(tmp_path: Path):
    rows = windows(3)
    for n, row in enumerate(rows):
        row["input"] = [{"role": "system", "content": f"Before: {'and so on ' * n}"}, *row["input"]]
    store, _ = read(tmp_path, rows)
    assert [texts(c)[1:] for c in store.conversations()] == [ALL]


def test_judgements_are_of_their_reply(tmp_path: Path):
    thumbs = [
        {"name": "user-feedback", "observationId": f"g{n}", "value": n % 2, "dataType": "BOOLEAN", "source": "API"}
        for n in range(6)
    ]
    (chat,) = read(tmp_path, [*windows(3), *thumbs])[0].conversations()
    assert [(r.reply_index, r.value) for r in chat.ratings] == [(2 * n + 1, [-1.0, 1.0][n % 2]) for n in range(6)]


def test_a_reply_that_was_asked_for_again_is_a_branch_with_the_whole_chat_before_it(tmp_path: Path):
    rows = windows(3)
    again = generation("again", rows[4]["input"], bot("another 5"), 4, startTime="2024-05-01T10:03:30.000Z")
    store, summary = read(tmp_path, [*rows, again])
    chats = sorted(store.conversations(), key=lambda c: len(c.messages))
    assert [texts(c) for c in chats] == [[*ALL[:9], "another 5"], ALL]
    assert [[(r.reply_index, r.kind) for r in c.ratings] for c in chats] == [[(9, "regeneration")], []]
    assert (len({c.conversation_id for c in chats}), len({c.family for c in chats})) == (2, 1)
    assert (summary.accepted, summary.duplicate) == (2, 5)


def test_a_reply_that_a_later_window_goes_on_from_was_not_given_up(tmp_path: Path):
    """A second reply came, and the user went back to the first."""
    rows = windows(3)
    again = generation("again", rows[4]["input"], bot("another 5"), 4, startTime="2024-05-01T10:04:30.000Z")
    store, _ = read(tmp_path, [*rows, again])
    assert [c.ratings for c in store.conversations()] == [(), ()]


def test_calls_of_tools_in_windows(tmp_path: Path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": {"name": "w"}}]}
    answer = {"role": "tool", "tool_call_id": "x", "content": "15C"}
    asked, reply, more = user("weather in Rome?"), bot("It is 15C."), user("and now?")
    rows = [
        generation("a", [user("hi"), bot("hello"), asked], call, 2),
        generation("b", [bot("hello"), asked, call, answer], reply, 3),
        generation("c", [asked, call, answer, reply, more], call, 4),
        generation("d", [reply, more, call, answer], bot("Still 15C."), 5),
    ]
    store, _ = read(tmp_path, [generation("0", [user("hi")], bot("hello"), 1), *rows])
    assert [texts(c) for c in store.conversations()] == [
        ["hi", "hello", "weather in Rome?", "", "15C", "It is 15C.", "and now?", "", "15C", "Still 15C."]
    ]


def test_a_new_chat_that_begins_as_another_ends_is_not_joined(tmp_path: Path):
    """Its first reply was given by a call: it begins here."""
    first = [generation("a", [user("one?")], bot("1"), 1)]
    first += [generation("b", [user("one?"), bot("1"), user("hi")], bot("hello"), 2)]
    second = [generation("c", [user("hi")], bot("hello"), 3)]
    second += [generation("d", [user("hi"), bot("hello"), user("bye")], bot("bye!"), 4)]
    store, _ = read(tmp_path, first + second)
    assert sorted(len(c.messages) for c in store.conversations()) == [4, 4]


@pytest.mark.parametrize("fields", [{"sessionId": None}, {"startTime": None}], ids=["session", "times"])
def test_without_a_session_or_without_times_nothing_is_joined(tmp_path: Path, fields: dict[str, Any]):
    store, _ = read(tmp_path, windows(5, **fields))
    assert max(len(c.messages) for c in store.conversations()) == 6


HELLO = "Hello! How can I help you?"
CAPITAL = "Rome is the capital of Italy, and has been since 1871, when the government moved there from Florence."


def begun_as_another_ends(reply: str, **second: Any) -> list[dict[str, Any]]:
    """Two chats of which the second begins with what the first one ends with. Its first call is not logged."""
    first = [generation("a", [user("one?")], bot("1"), 1)]
    first += [generation("b", [user("one?"), bot("1"), user("hi")], bot(reply), 2)]
    return [*first, generation("c", [user("hi"), bot(reply), user("bye")], bot("bye!"), 3, **second)]


@pytest.mark.parametrize("reply", [HELLO, CAPITAL], ids=["greeting", "long"])
def test_calls_of_two_users_in_one_session_are_not_joined(tmp_path: Path, reply: str):
    store, _ = read(tmp_path, begun_as_another_ends(reply, userId="bob"))
    chats = sorted((texts(c) for c in store.conversations()), reverse=True)
    assert chats == [["one?", "1", "hi", reply], ["hi", reply, "bye", "bye!"]]
    (tmp_path / "one user").mkdir()
    store, _ = read(tmp_path / "one user", begun_as_another_ends(reply))
    assert [texts(c) for c in store.conversations()] == [["one?", "1", "hi", reply, "bye", "bye!"]]


@pytest.mark.parametrize(("reply", "joined"), [(HELLO, False), (CAPITAL, True)], ids=["greeting", "long"])
def test_in_a_session_of_several_chats_without_users_a_greeting_joins_nothing(tmp_path: Path, reply: str, joined: bool):
    rows = [{**row, "userId": None} for row in begun_as_another_ends(reply)]
    another = generation("other", [user("four?")], bot("4"), 1, userId=None)
    store, _ = read(tmp_path, [*rows, another])
    (chat,) = [texts(c) for c in store.conversations() if "bye" in texts(c)]
    assert chat == [*(["one?", "1"] if joined else []), "hi", reply, "bye", "bye!"]
    (tmp_path / "one chat").mkdir()
    store, _ = read(tmp_path / "one chat", rows)
    assert [texts(c) for c in store.conversations()] == [["one?", "1", "hi", reply, "bye", "bye!"]]
