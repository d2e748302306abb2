"""A log with a message per row that is ingested day by day: the days of a conversation are joined, or counted."""

from collections.abc import Callable
from itertools import count
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from chats import WRONG, A, B, Q
from drift.cli import app
from drift.config import IngestionSettings
from drift.feedback.label import label_store
from drift.logs.ingest import IngestSummary, ingest
from drift.records import Conversation, Rating
from drift.store import Store
from ingested_in_pieces import both
from message_rows import CHAT, MAP, TIMED, add, ai_sdk, dify, flowise, langchain, librechat, read, table

LONG = [*CHAT, ("user", "Thanks!"), ("assistant", "You are welcome."), ("user", "Bye."), ("assistant", "Bye!")]
Row = Callable[[int, str, str], dict[str, Any]]


def rows_of(row: Row, chat: list[tuple[str, str]] = LONG, start: int = 0) -> list[dict[str, Any]]:
    return [row(place, role, text) for place, (role, text) in enumerate(chat, start)]


def texts(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def counts(summary: IngestSummary) -> dict[str, int]:
    names = ("accepted", "updated", "duplicate", "not_joined")
    return {name: value for name in names if (value := getattr(summary, name))}


@pytest.fixture
def days(tmp_path) -> Callable[..., tuple[list[Conversation], list[dict[str, int]]]]:
    """What a store holds after one ingestion for each day, and what became of each."""
    numbers = count()

    def one(*parts: list[dict[str, Any]], **options: Any) -> tuple[list[Conversation], list[dict[str, int]]]:
        store = Store(tmp_path / f"days-{next(numbers)}")
        each = [add(store, tmp_path / f"day-{next(numbers)}", part, **options)[1] for part in parts]
        return list(store.conversations()), [counts(summary) for summary in each]

    return one


@pytest.mark.parametrize("row", [flowise, ai_sdk, table, dify])
def test_days_are_joined_to_what_one_ingestion_of_all_gives(tmp_path, days, row):
    options: dict[str, Any] = {"columns": TIMED} if row is table else {}
    rows = rows_of(row)
    whole, _ = read(tmp_path, rows, **options)
    assert days(rows[:2], rows[2:], **options) == (whole, [{"accepted": 1}, {"updated": 1}])
    assert days(rows[:4], rows[4:6], rows[6:], **options) == (whole, [{"accepted": 1}, {"updated": 1}, {"updated": 1}])
    assert days(rows[4:], rows[:4], **options) == (whole, [{"accepted": 1}, {"updated": 1}])  # the later day first
    assert days(rows[:4], rows[2:], **options) == (whole, [{"accepted": 1}, {"updated": 1}])  # both hold two rows
    again = [rows[:2], rows[2:], rows[2:], rows[:2], rows[3:5], rows]
    expected = [{"accepted": 1}, {"updated": 1}, *[{"duplicate": 1}] * 4]
    assert days(*again, **options) == (whole, expected)
    assert days(rows[2:5], rows, **options) == (whole, [{"accepted": 1}, {"updated": 1}])


def test_the_reaction_of_the_next_day_is_one_to_the_reply_of_the_day_before(tmp_path):
    rows, store = rows_of(flowise, CHAT), Store(tmp_path / "store")
    for number, part in enumerate((rows[:2], rows[2:])):
        add(store, tmp_path / str(number), part)
        label_store(store)
    assert [(label.reply_index, label.label, label.evidence) for label in store.labels() if label.label == "DSAT"] == [
        (1, "DSAT", WRONG)
    ]


def test_judgements_and_marks_of_both_days_stay_with_their_messages(tmp_path, days):
    rows = rows_of(flowise)
    rows[1] |= {"feedback": {"rating": "THUMBS_DOWN"}}
    rows[4] |= {"fileUploads": [{"mime": "image/png"}]}
    rows[5] |= {"feedback": {"rating": "THUMBS_UP"}}
    whole, _ = read(tmp_path, rows)
    assert (whole[0].ratings, whole[0].tags) == (
        (Rating(1, "thumb", -1.0), Rating(5, "thumb", 1.0)),
        {"media_turns": "4"},
    )
    assert days(rows[:4], rows[4:])[0] == whole
    plain = [{**row, "feedback": None} for row in rows[4:]]
    assert days(rows[:4], plain, rows[4:]) == (whole, [{"accepted": 1}, {"updated": 1}, {"updated": 1}])


def test_a_system_message_that_each_day_repeats_stands_there_once(tmp_path, days):
    rows = [
        {"chat": "c", "q": request, "a": reply, "s": "Be brief.", "at": f"2024-05-0{day}T10:00:00Z"}
        for day, (request, reply) in enumerate([(Q, A), (WRONG, B), ("Thanks!", "Good.")], 1)
    ]
    columns = {"conversation": "chat", "request": "q", "reply": "a", "system": "s", "time": "at"}
    whole, _ = read(tmp_path, rows, columns=columns)
    assert [message.role for message in whole[0].messages] == ["system", *["user", "assistant"] * 3]
    for parts in ((rows[:1], rows[1:]), (rows[1:], rows[:1]), (rows[:2], rows[1:])):
        assert days(*parts, columns=columns)[0] == whole


def of_user(name: str) -> Row:
    return lambda place, role, text: {**flowise(place, role, text), "userId": name}


@pytest.mark.parametrize(
    ("first", "then", "columns"),
    [
        (rows_of(librechat, CHAT[:2]), rows_of(librechat, CHAT[2:], 2), {}),  # which path goes on is not stored
        (rows_of(langchain, CHAT[:2]), rows_of(langchain, LONG[2:], 2), {}),  # no times
        (rows_of(table, CHAT[:2]), rows_of(table, CHAT[2:], 2), MAP),
        (rows_of(of_user("ann"), CHAT[:2]), rows_of(of_user("bob"), CHAT[2:], 2), {}),
        (
            [{**row, "at": "2024-05-01"} for row in rows_of(table, CHAT[:2])],
            [{**row, "at": "2024-05-01"} for row in rows_of(table, CHAT[2:], 2)],
            TIMED,
        ),
    ],
    ids=["tree", "no times", "no times in a table", "two users", "one time"],
)
def test_messages_whose_order_nothing_tells_are_counted_and_left_out(days, first, then, columns):
    (stored,), outcomes = days(first, then, then, columns=columns)
    assert texts(stored) == CHAT[:2]
    assert outcomes == [{"accepted": 1}, {"not_joined": 1}, {"not_joined": 1}]


def test_logs_of_which_nothing_could_be_joined_are_an_error(tmp_path):
    store = Store(tmp_path / "store")
    add(store, tmp_path / "day-1", rows_of(langchain, CHAT[:2]))
    (tmp_path / "day-2.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows_of(langchain, LONG[2:], 2))))
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "day-2.jsonl"), "--store", str(store.path)])
    assert done.exit_code == 1
    assert str(done.exception).startswith("nothing usable in these logs: ")
    assert "1 not_joined. They hold other messages than the stored conversations of their ids" in str(done.exception)


def test_a_window_without_times_goes_on_from_the_messages_that_both_days_have(days):
    rows = rows_of(langchain)
    (stored,), outcomes = days(rows[:4], rows[2:], rows[2:6])
    assert (texts(stored), outcomes) == (LONG, [{"accepted": 1}, {"updated": 1}, {"duplicate": 1}])


def test_days_that_overlap_are_joined_though_their_placeholders_count_anew(tmp_path):
    chat = [
        ("user", "I am ann@example.com."),
        ("assistant", "Hello!"),
        ("user", "Write to bob@example.com."),
        *CHAT[1:],
    ]
    rows, store = rows_of(flowise, chat), Store(tmp_path / "store")
    logs = [tmp_path / f"{number}.jsonl" for number in range(2)]
    for path, day in zip(logs, (rows[:4], rows[2:]), strict=True):
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in day))
        ingest([path], store)
    (stored,) = store.conversations()
    assert [text for _, text in texts(stored)][:3] == ["I am <EMAIL_1>.", "Hello!", "Write to <EMAIL_2>."]
    assert texts(stored)[3:] == CHAT[1:]


def test_a_corrected_message_makes_a_version_not_a_part(days):
    rows = rows_of(flowise)
    corrected = [flowise(0, "user", "What is 2 + 2?"), *rows[1:]]
    (stored,), outcomes = days(rows[:4], corrected)
    assert (texts(stored), outcomes[1]) == ([("user", "What is 2 + 2?"), *LONG[1:]], {"updated": 1})


def test_the_same_in_pieces(tmp_path):
    rows = rows_of(flowise)
    days = (rows[:2], rows[2:5], rows_of(of_user("bob"), CHAT, 5))
    logs = [tmp_path / f"{number}.jsonl" for number in range(len(days))]
    for path, day in zip(logs, days, strict=True):
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in day))
    stores = both(tmp_path, *[[path] for path in logs])
    assert [texts(one)[:5] for one in stores[1].conversations()] == [LONG[:5]]


def native(*chat: tuple[str, str], hour: int | None = None, **more: Any) -> list[dict[str, Any]]:
    """A row that holds a whole chat; all messages have times if there is an hour."""
    times = ({} if hour is None else {"timestamp": f"2024-05-01T{hour:02}:{n:02}:00Z"} for n in count())
    messages = [{"role": role, "content": text, **time} for (role, text), time in zip(chat, times, strict=False)]
    return [{"id": "1", "messages": messages, **more}]


RICE = [("user", "How do I cook rice?"), ("assistant", "Boil it.")]
EDITED = [("user", "How do I boil rice?"), *CHAT[1:]]


@pytest.mark.parametrize(
    ("first", "then", "outcome", "expected"),
    [
        (native(*RICE, hour=8), native(*CHAT[2:], hour=9), "duplicate", RICE),  # an id that is used again
        (native(*CHAT[:2], hour=8), native(*EDITED, hour=9), "updated", EDITED),
        (native(*CHAT[:2]), native(*RICE, *CHAT), "updated", [*RICE, *CHAT]),  # both are edited
        (
            native(("system", "Monday"), *CHAT[:2], hour=8),
            native(("system", "Tuesday"), *CHAT, hour=9),
            "updated",
            [("system", "Tuesday"), *CHAT],
        ),
    ],
    ids=["id again", "stamped anew", "no times", "system message"],
)
def test_a_row_with_a_whole_chat_is_never_a_part(days, first, then, outcome, expected):
    (stored,), outcomes = days(first, then)
    assert (texts(stored), outcomes, stored.tags) == (expected, [{"accepted": 1}, {outcome: 1}], {})
    (stored,), outcomes = days([*first, *then])
    assert texts(stored) == expected


def test_an_exchange_with_an_id_of_its_own_is_never_a_part(days):
    columns = {"request": "q", "reply": "a", "id": "id", "time": "at"}
    rows = [
        {"id": "1", "q": request, "a": reply, "at": f"2024-05-01T{hour:02}:00:00Z"}
        for hour, (request, reply) in enumerate([(Q, A), (WRONG, B)], 8)
    ]
    (stored,), outcomes = days(rows[:1], rows[1:], columns=columns)
    assert (texts(stored), outcomes) == (CHAT[:2], [{"accepted": 1}, {"duplicate": 1}])


@pytest.mark.parametrize("row", [native, flowise])
def test_a_grown_log_that_is_redacted_now_replaces_the_clear_text(tmp_path, row):
    chat = [("user", "I am ann@example.com"), ("assistant", "Hi ann@example.com"), *CHAT[2:]]
    store = Store(tmp_path / "store")
    for until, redact in ((2, False), (4, True)):
        rows = native(*chat[:until]) if row is native else rows_of(flowise, chat[:until])
        log = tmp_path / f"{until}.jsonl"
        log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        summary = ingest([log], store, settings=IngestionSettings(redact=redact))
    assert counts(summary) == {"updated": 1}
    (stored,) = store.conversations()
    assert texts(stored) == [("user", "I am <EMAIL_1>"), ("assistant", "Hi <EMAIL_1>"), *CHAT[2:]]


@pytest.mark.parametrize("row", [langchain, librechat])
def test_a_day_that_begins_with_a_greeting_as_another_does_not_replace_it(days, row):
    first = [("user", "hi"), ("assistant", "Hello"), *CHAT[:2]]
    then = [("user", "hi"), ("assistant", "Hello again"), *CHAT[2:], ("user", "Bye."), ("assistant", "Bye!")]
    (stored,), outcomes = days(rows_of(row, first), rows_of(row, then, 4))
    assert (texts(stored), outcomes) == (first, [{"accepted": 1}, {"not_joined": 1}])


def test_days_are_joined_in_a_store_of_an_earlier_version(tmp_path):
    rows, store = rows_of(flowise), Store(tmp_path / "store")
    add(store, tmp_path / "1", rows[:4])
    for file in (tmp_path / "store" / "conversations").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["of_rows"]), file)
    assert [texts(one) for one in store.conversations()] == [LONG[:4]]
    assert counts(add(store, tmp_path / "2", rows[4:])[1]) == {"updated": 1}
    assert [texts(one) for one in store.conversations()] == [LONG]


def test_of_the_times_of_a_consent_the_first_is_kept(days):
    rows = [{**row, "consent": "yes", "consent_at": row["createdDate"]} for row in rows_of(flowise)]
    (stored,), _ = days(rows[:4], rows[4:6], rows[6:])
    assert stored.tags == {"consent": "yes", "consent_at": rows[0]["createdDate"]}
    refused = [{**row, "consent": "no"} for row in rows[4:]]
    assert days(rows[:4], refused)[0][0].tags["consent"] == "yes, no"
