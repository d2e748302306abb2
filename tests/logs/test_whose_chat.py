"""Whose chat a row holds: ids, users and times by their usual names and as the objects that databases export."""

import orjson
import pytest

from drift.config import IngestionSettings
from drift.logs.files.rows import LogRow, Place
from drift.logs.ingest import ingest
from drift.logs.readers import READERS
from drift.logs.unread import Unread
from drift.logs.values import name_of, seconds_of, time_of
from drift.store import Store

HELLO = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello!"}]
QUESTIONS = ("Where is my order?", "Cancel my plan.", "Opening hours?")
CHATS = [[*HELLO, {"role": "user", "content": text}, {"role": "assistant", "content": "OK."}] for text in QUESTIONS]
TEN = 1714557600  # 2024-05-01 at ten, UTC


def stored(tmp_path, rows, **options):
    tmp_path.mkdir(exist_ok=True)
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = ingest([log], store, **options)
    assert summary.adds_up
    return list(store.conversations()), summary


def shared(chat):
    return [{"from": message["role"], "value": message["content"]} for message in chat]


OBJECTS = [
    {"id": {"$oid": "c{}"}, "user": {"id": "u{}"}, "timestamp": {"$date": "2024-05-01T10:00:00Z"}},
    {"session_id": {"$oid": "c{}"}, "user_id": {"$uuid": "u{}"}, "createdAt": {"$date": {"$numberLong": f"{TEN}000"}}},
    {"conversation_id": "c{}", "user_id": "u{}", "created_at": "2024-05-01T10:00:00Z"},
    {"metadata": {"chatId": "c{}", "userId": "u{}"}, "timestamp": {"seconds": TEN, "nanoseconds": 0}},
]


@pytest.mark.parametrize("key", ["messages", "conversations"])
@pytest.mark.parametrize("names", OBJECTS)
def test_chats_that_begin_alike_stay_apart(tmp_path, names, key):
    rows = []
    for number, chat in enumerate(CHATS):
        about = orjson.loads(orjson.dumps(names).decode().replace("{}", str(number)))
        rows.append({**about, key: chat if key == "messages" else shared(chat)})
    found, summary = stored(tmp_path, rows)
    assert (summary.accepted, summary.unread) == (3, {})
    assert sorted(one.source_id or "" for one in found) == ["c0", "c1", "c2"]
    assert len({one.user_key for one in found}) == 3
    assert [seconds_of(one.started_at) for one in found] == [TEN] * 3


def test_rows_of_one_chat_are_its_versions_or_its_exchanges(tmp_path):
    grown = [{"conversation_id": "c", "messages": CHATS[0][:length]} for length in (2, 4)]
    other = {"conversation_id": "c", "messages": [{"role": "user", "content": "And now?"}, HELLO[1]]}
    found, summary = stored(tmp_path, [*grown, other])
    assert (summary.accepted + summary.updated + summary.duplicate, len(found)) == (3, 2)
    assert {one.source_id for one in found} == {"c"}
    assert len({(one.family, one.split) for one in found}) == 1
    own = [{"id": n, "session_id": "s", "messages": chat} for n, chat in enumerate(CHATS)]
    found, _ = stored(tmp_path / "2", own)
    assert (sorted(one.source_id or "" for one in found), len({one.split for one in found})) == (["0", "1", "2"], 1)


def test_the_key_of_a_database_row_is_no_chat(tmp_path):
    """One document of MongoDB for each call: the second one goes on with the first one's chat."""
    rows = [{"_id": str(length), "messages": CHATS[0][:length]} for length in (2, 4)]
    found, summary = stored(tmp_path, rows)
    assert (len(found), summary.unread) == (1, {"_id": 2})


def test_chats_of_a_table_in_different_sessions_stay_apart(tmp_path):
    rows = [{"q": chat[:3], "a": "OK.", "s": number} for number, chat in enumerate(CHATS)]
    settings = IngestionSettings(map={"request": "q", "reply": "a", "session": "s"})
    assert stored(tmp_path, rows, settings=settings)[1].accepted == 3


def test_the_user_of_a_call_may_be_an_object(tmp_path):
    completion = {"object": "chat.completion", "choices": [{"message": HELLO[1]}]}
    rows = [{"request": {"messages": HELLO[:1]}, "response": completion, "user": {"id": n}} for n in "ab"]
    found, summary = stored(tmp_path, rows)
    assert (summary.accepted, len({one.user_key for one in found} - {None})) == (2, 2)


def test_messages_of_several_chats_in_one_list_are_named(tmp_path):
    chats = [{**message, "sessionId": name} for name in ("s1", "s2") for message in HELLO]
    _, summary = stored(tmp_path, [{"messages": chats}, {"id": "c", "messages": chats}])
    assert (summary.accepted, list(summary.quarantined)) == (1, ["no_conversation"])
    advice = "with --map conversation=sessionId,role=role,content=content"
    assert advice in summary.details[next(iter(summary.quarantined))]


@pytest.mark.parametrize("name", ["messages", "sharegpt", "claude", "librechat", "openai"])
def test_a_name_in_an_object_that_nobody_can_read_is_unread(name):
    keys = READERS[name].keys or {}
    known = next(key for key in ("id", "user", "model") if key in keys)
    unread = Unread(lambda _: False)
    rows = [
        LogRow(Place(1), {known: value}) for value in ({"x": 1}, ["a"], {}, {"name": "n"}, {"$oid": "o"}, "t", None)
    ]
    list(unread.counted(rows, keys))
    assert unread.counts == {known: 2}


def test_objects_that_name_a_thing_or_a_time():
    assert name_of({"_id": {"$oid": "x"}, "name": "Ann"}) == "x"
    assert name_of({"name": "gpt-4"}) == "gpt-4"
    assert [name_of(value) for value in ({}, {"x": "y"}, {"id": ""}, {"id": {"id": {"id": {"id": "deep"}}}})] == [
        None
    ] * 4
    assert time_of({"$date": "2024-05-01T10:00:00Z"}) == "2024-05-01T10:00:00Z"
    assert seconds_of({"$date": {"$numberLong": f"{TEN}000"}}) == TEN
    assert seconds_of({"_seconds": TEN}) == TEN
    assert seconds_of({"day": 1}) is None
