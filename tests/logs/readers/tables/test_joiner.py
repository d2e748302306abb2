"""Rows of tables joined: which way a table goes, and stars beside thumbs in one column."""

import json
from pathlib import Path

import pytest

from drift.config import IngestionSettings
from drift.logs.ingest import ingest
from drift.logs.values import seconds_of
from drift.progress import listening
from drift.store import Store

MAP = {"conversation": "c", "role": "who", "content": "said"}
TIMED = {**MAP, "time": "at"}
ORDER = ["q1", "a1", "q2", "a2"]


def chat(name: str, times: list, texts: list[str] = ORDER) -> list[str]:
    """The rows of a chat, oldest first."""
    who = {"q": "user", "a": "bot"}
    return [f"{name},{who[text[0]]},{text},{at}" for text, at in zip(texts, times, strict=True)]


def read(tmp_path: Path, rows: list[str], columns: dict[str, str], head: str = "c,who,said,at"):
    log, store = tmp_path / "t.csv", Store(tmp_path / "store")
    log.write_text("\n".join((head, *rows, "")))
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        summary = ingest([log], store, settings=IngestionSettings(map=columns))
    found = {one.source_id: [message.content for message in one.messages] for one in store.conversations()}
    return found, {str(repair): count for repair, count in summary.repaired.items()}, notes


ONE = ["2024-05-02T10:00:00"] * 2
TWO = ["2024-05-01T10:00:00"] * 2 + ["2024-05-01T10:00:01"] * 2
SAME = ["2024-05-03T10:00:00"] * 4


@pytest.mark.parametrize("is_newest_first", [False, True])
@pytest.mark.parametrize("chats", [
    [("x", TWO, ORDER), ("y", ONE, ["q1", "a1"])],
    [("x", TWO[:2], ["q1", "a1"]), ("y", ONE, ["q1", "a1"]), ("z", SAME, ORDER)],
])  # fmt: skip
def test_a_chat_of_one_second_stands_as_its_table_goes(tmp_path, chats, is_newest_first):
    rows = [row for one in chats for row in chat(*one)]
    found, repaired, notes = read(tmp_path, rows[::-1] if is_newest_first else rows, TIMED)
    assert found == {name: texts for name, _, texts in chats}
    assert (repaired, notes) == ({}, [])


def test_chats_listed_with_the_newest_first_that_are_written_forward_stay_so(tmp_path):
    """Each message has the time of its chat."""
    rows = [*chat("z", SAME), *chat("y", ONE, ["q1", "a1"]), *chat("x", ONE, ["q1", "a1"])]
    assert read(tmp_path, rows, TIMED)[0] == {"z": ORDER, "y": ["q1", "a1"], "x": ["q1", "a1"]}


def test_chats_that_the_bot_opens_stay_so_where_the_newest_stands_first(tmp_path):
    """Each message has the time of its chat, and one chat ends with a request."""
    chats = {"z": ["a0", "q1", "a1"], "y": ["a0", "q1", "a1", "q2"], "x": ["a0", "q1", "a1"]}
    rows = [row for (name, texts), day in zip(chats.items(), "321", strict=True)
            for row in chat(name, [f"2024-05-0{day}T10:00:00"] * len(texts), texts)]  # fmt: skip
    assert read(tmp_path, rows, TIMED)[0] == chats


def test_one_chat_with_a_clock_that_went_back_does_not_turn_the_others(tmp_path):
    slipped = ["2024-05-01T10:00:01", "2024-05-01T10:00:00", "2024-05-01T10:00:00", "2024-05-01T10:00:00"]
    found, _, _ = read(tmp_path, [*chat("x", slipped), *chat("y", SAME), *chat("z", SAME)], TIMED)
    assert (found["y"], found["z"]) == (ORDER, ORDER)


@pytest.mark.parametrize(("times", "columns"), [(["noon"] * 4, TIMED), (SAME, TIMED), (SAME, MAP)])
def test_a_table_that_seems_reversed_and_has_no_times_is_named(tmp_path, times, columns):
    found, repaired, (note,) = read(tmp_path, chat("x", times)[::-1], columns)
    assert (found, repaired.pop("reply_first")) == ({"x": ORDER[::-1]}, 1)
    assert "1 of 1 chats" in note
    assert "--map time=COLUMN" in note
    assert repaired == ({"time_not_read": 4} if times[0] == "noon" else {})


def test_a_greeting_of_the_bot_is_not_suspicious(tmp_path):
    rows = [*chat("x", SAME), *chat("y", SAME[:3], ["a0", "q1", "a1"]), *chat("z", SAME[:2], ["a0", "q1"])]
    found, repaired, notes = read(tmp_path, rows, MAP)
    assert (found["y"], repaired, notes) == (["a0", "q1", "a1"], {}, [])


@pytest.mark.parametrize(("text", "expected"), [
    ("5/1/2024 10:00:00 +00:00", 1714557600), ("05/01/2024 12:00:00 +02:00", 1714557600),
    ("13/1/2024 10:00:00 +00:00", None), ("5/1/2024 10:00:00", None), ("5/1/24 10:00:00 +00:00", None),
])  # fmt: skip
def test_a_time_with_the_month_first_is_read_if_it_has_an_offset(text, expected):
    assert seconds_of(text) == expected


STARS = [
    (["1/5", "0/5"], [None, None]),
    (["0/5", "4/5"], [None, 0.5]),
    (["1/5", "★☆☆☆☆", "+1", "-1"], [None, None, 1.0, -1.0]),
    (["1/5", "5/5", "+1", "-1"], [-1.0, 1.0, 1.0, -1.0]),
    (["⭐️⭐️", "2"], [-0.5, -0.5]),
    (["5 stars", "1", "0"], [1.0, -1.0, None]),
    (["1/5", "👍", "dislike"], [None, 1.0, -1.0]),
]


@pytest.mark.parametrize(("values", "expected"), STARS)
def test_written_stars_are_no_thumbs(tmp_path, values, expected):
    log, store = tmp_path / "t.csv", Store(tmp_path / "store")
    log.write_text("".join(("id,q,a,vote\n", *(f"{n},q{n},a,{value}\n" for n, value in enumerate(values)))))
    columns = {"request": "q", "reply": "a", "id": "id", "rating": "vote"}
    summary = ingest([log], store, settings=IngestionSettings(map=columns))
    found = {one.source_id: [rating.value for rating in one.ratings] for one in store.conversations()}
    assert [found[str(n)] for n in range(len(values))] == [[] if value is None else [value] for value in expected]
    assert summary.filtered == expected.count(None)


def test_a_rating_of_a_reply_that_ends_with_a_tools_answer_is_not_about_the_reply_before(tmp_path):
    call = {"id": "k", "type": "function", "function": {"name": "chart", "arguments": "{}"}}
    charted = [{"role": "assistant", "content": "Here:", "tool_calls": [call]}, {"role": "tool", "content": "drawn"}]
    rows = [{"c": "1", "q": "hi", "a": "hello"}, {"c": "1", "q": "A chart?", "a": charted, "r": "thumbs_down"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    store = Store(tmp_path / "store")
    columns = {"conversation": "c", "request": "q", "reply": "a", "rating": "r"}
    ingest([tmp_path / "t.jsonl"], store, settings=IngestionSettings(map=columns))
    (one,) = store.conversations()
    assert [one.messages[rating.reply_index].content for rating in one.ratings] == ["Here:"]
