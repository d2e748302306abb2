"""Any table by the columns that the user names: one message or one exchange per row."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drift.config import IngestionSettings
from drift.errors import DataError
from drift.logs.files.opening import Repair
from drift.logs.ingest import IngestSummary, ingest
from drift.logs.readers.tables import joiner as tables
from drift.records import Conversation, Rating, Reason
from drift.store import Store

MESSAGES = {"conversation": "thread", "role": "sender", "content": "body"}
EXCHANGES = {"request": "q", "reply": "a"}
CHAT = [("user", "2+2?"), ("assistant", "5"), ("user", "No."), ("assistant", "4")]


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        sign = "," if path.suffix == ".csv" else "\t"
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [names, *([row.get(name) for name in names] for row in rows)]
        quoted = [['"' + ("" if c is None else str(c)).replace('"', '""') + '"' for c in row] for row in cells]
        path.write_text("".join(sign.join(row) + "\n" for row in quoted), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    else:
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def read(tmp_path: Path, rows: list[dict] | list[Path], columns: dict, name: str = "t.jsonl", **roles: Any):
    """The conversations by their id in the log, and the summary."""
    paths = [row for row in rows if isinstance(row, Path)]
    logs = paths or [write(tmp_path / name, [row for row in rows if isinstance(row, dict)])]
    store = Store(tmp_path / "store")
    settings = IngestionSettings.model_validate({"map": columns, "roles": roles, "redact": False})
    summary = ingest(logs, store, settings=settings)
    assert summary.adds_up
    return {c.source_id or c.messages[0].content: c for c in store.conversations()}, summary


def texts(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def outcomes(summary: IngestSummary) -> dict:
    return {**summary.quarantined, **summary.filtered_by, **summary.repaired}


def rows_of(thread: Any, chat: list[tuple[str, str]] = CHAT, **more: Any) -> list[dict]:
    return [{"thread": thread, "sender": role, "body": text, **more} for role, text in chat]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.jsonl", "t.json"])
def test_rows_of_one_conversation_need_not_stand_together(tmp_path, name):
    one, two = rows_of("x"), rows_of("y", [("User", 'a "b",\nc'), ("BOT", "é")])
    mixed = [one[0], two[0], one[1], one[2], two[1], one[3]]
    found, summary = read(tmp_path, mixed, MESSAGES, name)
    assert texts(found["x"]) == CHAT
    assert texts(found["y"]) == [("user", 'a "b",\nc'), ("assistant", "é")]
    assert (summary.rows, summary.read, summary.accepted, outcomes(summary)) == (6, 2, 2, {})
    again, summary = read(tmp_path, mixed, MESSAGES, name)
    assert (summary.accepted, summary.duplicate, again) == (0, 2, found)


def test_rows_in_several_files_are_one_conversation(tmp_path):
    rows = rows_of("x")
    files = [write(tmp_path / "logs" / "a.csv", rows[:2]), write(tmp_path / "logs" / "b.jsonl", rows[2:])]
    found, summary = read(tmp_path, [files[0].parent], MESSAGES)
    assert texts(found["x"]) == CHAT
    assert summary.rows == 4


def test_many_conversations_need_no_memory_for_their_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_ROWS_PER_BATCH", 100)
    rows = [row for turn in range(4) for n in range(300) for row in rows_of(n, [CHAT[turn]])]
    found, summary = read(tmp_path, rows, MESSAGES)
    assert len(found) == 300
    assert all(texts(conversation) == CHAT for conversation in found.values())
    assert summary.rows == 1200


TIMES = ["2024-05-01 10:00:00", "2024-05-01T10:00:01Z", "2024/05/01 10:00:02 UTC", "Wed, 01 May 2024 10:00:03 GMT"]


@pytest.mark.parametrize("times", [TIMES, [1714557600 + n for n in range(4)], ["1", "2", "10", "11"], [0, 1, 2, 10]])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_messages_stand_in_the_order_of_time(tmp_path, times, order):
    rows = [{**row, "at": time} for row, time in zip(rows_of("x"), times, strict=True)]
    found, summary = read(tmp_path, [rows[n] for n in order], {**MESSAGES, "time": "at"})
    assert texts(found["x"]) == CHAT
    assert outcomes(summary) == {}
    is_clock = times[0] not in ("1", 0)
    assert (found["x"].started_at is not None) is is_clock
    assert (found["x"].messages[1].timestamp is not None) is is_clock


def test_the_newest_first_and_two_messages_in_one_second(tmp_path):
    rows = [{**row, "at": f"2024-05-01T10:00:0{n // 2}Z"} for n, row in enumerate(rows_of("x"))]
    assert texts(read(tmp_path, rows[::-1], {**MESSAGES, "time": "at"})[0]["x"]) == CHAT
    assert texts(read(tmp_path / "2", rows, {**MESSAGES, "time": "at"})[0]["x"]) == CHAT


def test_without_a_time_in_every_row_the_rows_keep_their_order_and_unreadable_times_are_counted(tmp_path):
    rows = [{**row, "at": time} for row, time in zip(rows_of("x"), ["2024-05-02", "yesterday", None, ""], strict=True)]
    found, summary = read(tmp_path, rows, {**MESSAGES, "time": "at"})
    assert texts(found["x"]) == CHAT
    assert outcomes(summary) == {Repair.TIME_NOT_READ: 1}


def test_what_the_columns_name_is_kept(tmp_path):
    rows = rows_of("x", user="bot-7", model=None, lang="en", session="s", licence="MIT")
    rows[0]["user"], rows[3]["model"] = "ann", "m-1"
    columns = {**MESSAGES, "user": "user", "model": "model", "language": "lang", "session": "session"}
    found, summary = read(tmp_path, rows, columns)
    other, _ = read(tmp_path / "2", rows_of("x", user="ann"), {**MESSAGES, "user": "user"})
    (conversation,) = found.values()
    assert (conversation.model, conversation.language, conversation.tags) == ("m-1", "en", {"licence": "MIT"})
    assert conversation.family is not None
    assert conversation.user_key is not None
    assert conversation.source == "table(thread, sender, body)"
    assert summary.unread == {}
    assert [conversation.source_id for conversation in other.values()] == ["x"]


def test_rows_that_contradict_each_other_about_consent_give_none(tmp_path):
    rows = rows_of("x", consent="yes") + rows_of("y", consent="yes")
    rows[2]["consent"] = "no"
    file = write(tmp_path / "t.csv", rows)
    settings = IngestionSettings(map=MESSAGES, require_consent={"consent": "yes"})
    store = Store(tmp_path / "store")
    assert ingest([file], store, settings=settings).filtered_by == {Reason.NO_CONSENT: 1}
    assert [c.source_id for c in store.conversations()] == ["y"]


def test_roles_by_the_words_of_the_log(tmp_path):
    rows = rows_of("x", [("Customer", "q"), ("agent 7", "a"), ("note", "internal"), ("true", "q2"), ("1", "a2")])
    roles = {"user": ["customer", True], "assistant": ["Agent 7", 1], "skip": "note"}
    found, summary = read(tmp_path, rows, MESSAGES, **roles)
    assert texts(found["x"]) == [("user", "q"), ("assistant", "a"), ("user", "q2"), ("assistant", "a2")]
    assert outcomes(summary) == {Reason.NOT_A_CHAT: 1}
    typed = [{**row, "sender": value} for row, value in zip(rows, ["customer", 1.0, "note", True, 1], strict=True)]
    assert texts(read(tmp_path / "2", typed, MESSAGES, **roles)[0]["x"]) == texts(found["x"])


def test_an_unknown_role_is_named_with_what_to_write(tmp_path):
    rows = rows_of("x", [("user", "q"), ("Staff", "a"), ("Staff", "b")]) + rows_of("y", [("user", "q")])
    found, summary = read(tmp_path, rows, MESSAGES)
    assert list(found) == ["y"]
    assert outcomes(summary) == {Reason.UNKNOWN_ROLE: 1}
    assert summary.unknown_roles == {"'Staff'": 2}
    advice = "say who it is: --roles user=Staff or --roles assistant=Staff; known: user, human"
    assert f"t.jsonl:2: unknown role 'Staff': {advice}" in summary.details[Reason.UNKNOWN_ROLE]
    (note,) = Store(tmp_path / "store").quarantined()
    assert (note.line, note.reason, Path(note.file).name) == (2, Reason.UNKNOWN_ROLE, "t.jsonl")
    _, private = read(tmp_path / "2", rows_of("x", [("Anna Maria Smith", "q")]), MESSAGES)
    assert "Anna" not in str((private.details, private.unknown_roles))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"thread": None, "sender": "user", "body": "q"}, {Reason.NO_CONVERSATION: 1}),
        ({"thread": "x", "sender": None, "body": None}, {Reason.NOT_A_CHAT: 1}),
        ({"thread": "x", "sender": None, "body": "q"}, {Reason.UNKNOWN_ROLE: 1}),
        ({"thread": "x", "sender": "user", "body": {"a": 1}}, {Reason.BAD_CONTENT: 1}),
        ({"thread": "x", "sender": ["user"], "body": "q"}, {Reason.UNKNOWN_ROLE: 1}),
        ({"thread": ["x"], "sender": "user", "body": "q"}, {Reason.NO_CONVERSATION: 1}),
    ],
)
def test_a_row_that_cannot_be_used_has_a_name(tmp_path, row, expected):
    _, summary = read(tmp_path, [*rows_of("good"), row], MESSAGES)
    assert (summary.accepted, summary.rows, outcomes(summary)) == (1, 5, expected)


def test_contents_are_texts_numbers_and_parts(tmp_path):
    parts = [{"type": "text", "text": "look"}]
    chat = [("user", parts), ("assistant", 4), ("user", orjson.dumps(parts).decode()), ("assistant", None)]
    rows = rows_of("x", [*chat, ("user", '[{"a": 1}]'), ("user", '{"text": "mine"}')])
    found, _ = read(tmp_path, rows, MESSAGES)
    said = ["look", "4", "look", "", '[{"a": 1}]', '{"text": "mine"}']
    assert [message.content for message in found["x"].messages] == said


def test_nested_columns_are_paths_also_into_json_text(tmp_path):
    rows = [
        {"t": {"id": "x"}, "p": {"from": "user", "parts": [{"text": "q"}]}, "p.note": 1},
        {"t": '{"id": "x"}', "p": '{"from": "bot", "parts": [{"text": "a"}], "cost": 3}'},
    ]
    columns = {"conversation": "t.id", "role": "p.from", "content": "p.parts.0.text"}
    found, summary = read(tmp_path, rows, columns)
    assert texts(found["x"]) == [("user", "q"), ("assistant", "a")]
    assert summary.unread == {"p.note": 1, "p.cost": 1}
    with pytest.raises(DataError, match=r"no column 't.ids' for conversation; did you mean --map conversation=t.id\?"):
        read(tmp_path / "2", rows, {**columns, "conversation": "t.ids"})


def test_exchanges_alone_and_joined(tmp_path):
    rows = [
        {"c": "x", "n": 2, "q": "No.", "a": "4", "s": "Count.", "u": "ann"},
        {"c": "x", "n": 1, "q": "2+2?", "a": "5", "s": "Count.", "u": "ann"},
        {"c": "y", "n": 1, "q": "hi", "a": None},
        {"c": "y", "n": 2, "q": None, "a": "still there?"},
        {"c": "y", "n": 3, "q": None, "a": None},
    ]
    columns = {**EXCHANGES, "conversation": "c", "time": "n", "system": "s", "user": "u"}
    found, summary = read(tmp_path, rows, columns)
    assert texts(found["x"]) == [("system", "Count."), *CHAT]
    assert texts(found["y"]) == [("user", "hi"), ("assistant", "still there?")]
    assert (summary.rows, outcomes(summary)) == (5, {Reason.NOT_A_CHAT: 1})
    alone, summary = read(tmp_path / "2", rows, {**EXCHANGES, "id": "u"} | {"id": "n"})
    assert (summary.accepted, summary.updated + summary.duplicate) == (2, 1)  # ids that come again
    assert set(alone) == {"1", "2"}


def test_the_request_and_the_reply_of_an_api_are_read(tmp_path):
    rows = [
        {"q": {"messages": [{"role": r, "content": t} for r, t in CHAT[:3]]},
         "a": {"choices": [{"message": {"role": "assistant", "content": "4"}}]}},
        {"q": '[{"role": "user", "content": "json"}]', "a": "ok"},
        {"q": '{"text": "typed by a user"}', "a": "[1, 2]"},
        {"q": {"x": 1}, "a": "ok"},
    ]  # fmt: skip
    found, summary = read(tmp_path, rows, EXCHANGES)
    assert texts(found["2+2?"]) == CHAT
    assert texts(found["json"]) == [("user", "json"), ("assistant", "ok")]
    assert texts(found['{"text": "typed by a user"}'])[1] == ("assistant", "[1, 2]")
    assert outcomes(summary) == {Reason.BAD_CONTENT: 1}
    _, summary = read(tmp_path / "2", [{**rows[0], "c": 1}], {**EXCHANGES, "conversation": "c"})
    assert "holds 3 messages: leave `conversation` out" in summary.details[Reason.BAD_CONTENT]


@pytest.mark.parametrize(
    ("values", "expected", "column"),
    [
        (["up", "down", None, "x"], [1.0, -1.0, None, None], "thumb"),
        (["👍🏽", "👎", "Thumbs Down", "like"], [1.0, -1.0, -1.0, 1.0], "thumb"),
        ([True, False, None, None], [1.0, -1.0, None, None], "thumb"),
        ([1, 0, 1, 0], [1.0, -1.0, 1.0, -1.0], "thumb"),
        (["1", "-1", "0", None], [1.0, -1.0, 0.0, None], "thumb"),
        ([1, 2, 3, 5], [-1.0, -0.5, 0.0, 1.0], "csat"),
        (["5/5", "1 star", "★★★☆☆", "2 stars"], [1.0, -1.0, 0.0, -0.5], "grading"),
        ([0, 1, 2, 2], [None, -1.0, -0.5, -0.5], "stars"),
        ([1, 2, 2, 2], [None, None, None, None], "level"),
        ([0, 5, 10, 7], [None, None, None, None], "nps"),
        ([1, 1, 1, 1], [None, None, None, None], "rating"),
        ([0.2, 0.9, 0.5, 1.0], [-0.6, 0.8, 0.0, 1.0], "score"),
    ],
)
def test_ratings_are_read_as_all_values_of_their_column_tell(tmp_path, values, expected, column):
    rows = [{"id": n, "q": f"q{n}", "a": "a", column: value} for n, value in enumerate(values)]
    found, summary = read(tmp_path, rows, {**EXCHANGES, "id": "id", "rating": column})
    got = [found[str(n)].ratings for n in range(len(values))]
    assert [pytest.approx(r[0].value) if r else None for r in got] == expected
    lost = sum(value is not None for value in values) - sum(value is not None for value in expected)
    assert summary.filtered == lost
    assert summary.accepted == 4


def test_a_rating_is_about_its_reply_or_the_reply_before_or_the_whole_conversation(tmp_path):
    rated = {**MESSAGES, "rating": "thumb", "comment": "why"}
    rows = [{**row, "thumb": thumb, "why": "so"} for row, thumb in zip(rows_of("x"), [None, -1, None, 1], strict=True)]
    assert read(tmp_path, rows, rated)[0]["x"].ratings == (
        Rating(1, "thumb", -1.0, "so"),
        Rating(3, "thumb", 1.0, "so"),
    )
    rows = [{**row, "thumb": thumb} for row, thumb in zip(rows_of("x", why=""), [1, None, -1, None], strict=True)]
    found, summary = read(tmp_path / "2", rows, rated)
    assert found["x"].ratings == (Rating(1, "thumb", -1.0),)
    assert outcomes(summary) == {Reason.ORPHAN_FEEDBACK: 1}
    found, summary = read(tmp_path / "3", rows_of("x", thumb="down", why=None), rated)
    assert (found["x"].ratings, outcomes(summary)) == ((Rating(3, "thumb", -1.0),), {})


def test_a_corrected_reply_is_a_correction(tmp_path):
    rows = [{"q": "2+2?", "a": "5", "better": "4"}, {"q": "3+3?", "a": "6", "better": ""}]
    found, _ = read(tmp_path, rows, {**EXCHANGES, "correction": "better"}, "t.csv")
    assert found["2+2?"].ratings == (Rating(1, "correction", -1.0, preferred="4"),)
    assert found["3+3?"].ratings == ()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({**MESSAGES, "content": "Body"}, "no column 'Body' for content; did you mean --map content=body?"),
        ({**MESSAGES, "role": "sendr"}, "did you mean --map role=sender?"),
        ({**MESSAGES, "rating": "zzz"}, "no column 'zzz' for rating; columns: thread, sender, body"),
        ({**MESSAGES, "user": "bodyy"}, "did you mean --map user=body?"),
    ],
)
def test_a_wrong_column_is_named_with_the_nearest_one(tmp_path, columns, says):
    with pytest.raises(DataError) as caught:
        read(tmp_path, rows_of("x"), columns, "t.csv")
    assert says in str(caught.value)
    assert str(tmp_path / "t.csv") in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_an_optional_column_may_come_late_but_must_come(tmp_path):
    rows = [*rows_of("x"), {**rows_of("y")[0], "who": "ann"}]
    assert read(tmp_path, rows, {**MESSAGES, "user": "who"})[0]["y"].user_key is not None
    with pytest.raises(DataError, match="--map user=whom: no row has this column"):
        read(tmp_path / "2", rows, {**MESSAGES, "user": "whom"})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("thread,sender,body\n", "no rows of a table"),
        ("thread,thread,sender,body\n1,2,user,q\n", r"no column 'thread' for conversation; did you mean --map "
         r"conversation=thread \(1\)"),
        ("thread;sender;body\nx;user;q,r\n", None),
    ],
)  # fmt: skip
def test_tables_with_a_header_alone_or_with_names_that_come_twice(tmp_path, content, says):
    file = tmp_path / "t.csv"
    file.write_text(content)
    if says is None:
        assert texts(read(tmp_path, [file], MESSAGES)[0]["x"]) == [("user", "q,r")]
        return
    with pytest.raises(DataError, match=says):
        read(tmp_path, [file], MESSAGES)


def test_a_foreign_table_in_a_folder_is_skipped_and_named(tmp_path):
    write(tmp_path / "logs" / "chats.csv", rows_of("x"))
    write(tmp_path / "logs" / "prices.csv", [{"item": "fig", "price": 1}])
    found, summary = read(tmp_path, [tmp_path / "logs"], MESSAGES)
    assert list(found) == ["x"]
    ((file, why),) = summary.skipped.items()
    assert Path(file).name == "prices.csv"
    assert why == "no column 'thread' for conversation; columns: item, price"


def test_a_column_of_one_value_is_too_large_a_conversation_and_costs_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROW_BYTES", 10_000)
    rows = [*rows_of("same", [CHAT[0]] * 500), *rows_of("x")]
    found, summary = read(tmp_path, rows, MESSAGES)
    assert list(found) == ["x"]
    assert (summary.rows, outcomes(summary)) == (504, {Reason.TOO_LARGE: 1})


def test_five_megabytes_in_a_cell_go_through(tmp_path):
    found, _ = read(tmp_path, rows_of("x", [("user", "q" * 5_000_000), ("assistant", "a")]), MESSAGES, "t.csv")
    assert len(found["x"].messages[0].content) == 5_000_000


def test_a_format_beside_a_mapping_is_refused(tmp_path):
    file = write(tmp_path / "t.csv", rows_of("x"))
    with pytest.raises(DataError, match="exclude each other"):
        ingest([file], Store(tmp_path / "s"), format="messages", settings=IngestionSettings(map=MESSAGES))


@pytest.mark.parametrize("name", ["flat_rows.jsonl", "flowise_messages.json", "dify_messages.json", "langfuse_ui.csv"])
def test_the_cases_become_what_their_readme_says(test_data, tmp_path, name):
    settings: dict = {
        "flat_rows.jsonl": {
            "map": {"conversation": "conversation_id", "role": "role", "content": "content", "time": "created_at"}
        },
        "flowise_messages.json": {
            "map": {"conversation": "chatId", "role": "role", "content": "content", "time": "createdDate"},
            "roles": {"user": "userMessage", "assistant": "apiMessage"},
        },
        "dify_messages.json": {
            "map": {
                "conversation": "conversation_id",
                "request": "query",
                "reply": "answer",
                "rating": "feedback.rating",
                "time": "created_at",
            }
        },
        "langfuse_ui.csv": {"map": {"request": "input", "reply": "output", "user": "userId", "time": "timestamp"}},
    }[name]
    store = Store(tmp_path / "store")
    ingest([test_data / "cases" / name], store, settings=IngestionSettings.model_validate(settings))
    (conversation,) = store.conversations()
    said = ["Sort these words from a to z: moon eagle garden", "moon eagle garden",
            "That is wrong, you did not sort them at all.", "eagle garden moon"]  # fmt: skip
    size = 2 if name == "langfuse_ui.csv" else 4
    assert texts(conversation) == list(zip(["user", "assistant"] * 2, said, strict=True))[:size]
    assert conversation.ratings == ((Rating(1, "thumb", -1.0),) if name == "dify_messages.json" else ())


def test_an_image_is_of_its_message_alone(tmp_path):
    seen = [{"type": "text", "text": "And this?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    rows = [*rows_of("x"), *rows_of("x", [("user", seen), ("assistant", "A cat.")])]
    only = read(tmp_path, rows, MESSAGES)[0]["x"]
    assert [only.has_media(place) for place in range(6)] == [False, False, False, False, True, False]
    seen[0]["text"] = "See"
    requests = [[{"role": "user", "content": text}] for text in ("Hi", seen)]
    rows = [{"c": "y", "q": request, "a": "Yes."} for request in requests]
    only = read(tmp_path / "exchanges", rows, {**EXCHANGES, "conversation": "c"})[0]["y"]
    assert [only.has_media(place) for place in range(4)] == [False, False, True, False]


@pytest.mark.parametrize("time", ["9" * 5000, "--123456789", "Wed, 01 May 99999999999 10:00:00 GMT"])
def test_a_time_that_no_clock_shows_is_no_time(tmp_path, time):
    found, summary = read(tmp_path, [{**row, "at": time} for row in rows_of("x")], {**MESSAGES, "time": "at"})
    assert (texts(found["x"]), outcomes(summary)) == (CHAT, {Repair.TIME_NOT_READ: 4})


def test_a_correction_beside_stars_says_nothing_about_their_scale(tmp_path):
    columns = {**EXCHANGES, "id": "id", "rating": "stars", "correction": "better"}
    rows = [
        {"id": "x", "q": "2+2?", "a": "5", "stars": "1/5", "better": "4"},
        {"id": "y", "q": "2+2?", "a": "4", "stars": "5/5"},
    ]
    found, summary = read(tmp_path, rows, columns)
    assert found["x"].ratings == (Rating(1, "correction", -1.0, None, "4"),)
    assert (found["y"].ratings, outcomes(summary)) == ((Rating(1, "score", 1.0),), {})


@pytest.mark.parametrize(
    "reply",
    [
        "[]", "[1, 2]", '[{"type": "car"}]', '{"a": 1}', '{"answer": "4"}',
        '{"from": "Berlin", "to": "Rome", "type": "train"}', '{"error": "City not found", "code": 4}',
        '{"role": "Data engineer", "text": "x"}', '{"output": {"type": "car", "price": 3}}', '{"content": "a"}',
        '[{"task": 1, "done": false, "message": "buy milk"}]', '[{"candidates": ["Ann"], "office": "mayor"}]',
        '[{"type": "ping"}, {"type": "pong"}]',
    ],
)  # fmt: skip
def test_a_reply_that_is_json_is_a_text(tmp_path, reply):
    chat = [("user", "As JSON, please."), ("assistant", reply)]
    found, _ = read(tmp_path, rows_of("x", chat), MESSAGES)
    assert texts(found["x"]) == chat
    found, _ = read(tmp_path / "exchanges", [{"id": "y", "q": chat[0][1], "a": reply}], {**EXCHANGES, "id": "id"})
    assert texts(found["y"]) == chat
