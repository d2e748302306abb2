"""Times: one parser for all formats, in the spellings of real exports; one that it cannot read is counted."""

from pathlib import Path

import orjson
import pytest

from drift.config import IngestionSettings
from drift.logs.ingest import ingest
from drift.logs.values import seconds_of, time_of
from drift.records import Conversation
from drift.store import Store

TEN = 1714557600  # 2024-05-01 at ten, UTC
SPELLINGS = [
    TEN, str(TEN), f"{TEN}.0", TEN * 1000, f"{TEN}000", "2024-05-01T10:00:00Z", "2024-05-01 10:00:00 UTC",
    "2024-05-01 10:00:00.000 +0000 UTC", "2024-05-01 12:00:00 +0200", "2024/05/01 10:00", "20240501100000",
    20240501100000, "Wed, 01 May 2024 10:00:00 GMT", "Wed May  1 10:00:00 2024",
    "Wed, 1 May 2024 12:00:00 +0200 (CEST)", "1 May 2024 06:00 EDT", "Wednesday, 01-May-24 10:00:00 GMT",
    "2024-05-01 12:00:00   +02:00",
]  # fmt: skip
AT = (("first", 0), ("second", 60))


@pytest.mark.parametrize("value", SPELLINGS)
def test_the_spellings_of_a_time(value):
    assert seconds_of(value) == TEN
    assert seconds_of(time_of(value)) == TEN


@pytest.mark.parametrize("value", ["yesterday", "12", 12.5e30, "20249901100000000000000", float("nan"), True, "", []])
def test_what_is_no_time(value):
    assert seconds_of(value) is None


@pytest.mark.parametrize("value", [
    "May 1, 2024, 1:05 PM", "1 May 2024 1:05 pm", "Wed May 01 2024 10:00:00 GMT+0200 (CEST)",
    "Wed May  1 10:00:00 CEST 2024", "Wed, 01 May 2024 10:00:00 +02:00", "1 May 2024",
])  # fmt: skip
def test_a_date_is_not_read_in_part(value):
    """An afternoon or an offset that is passed over gives another hour, and a chat in another order."""
    assert seconds_of(value) is None
    assert time_of(value) == value


def ingested(tmp_path: Path, name: str, text: str, **settings) -> tuple[dict, list[Conversation]]:
    log, store = tmp_path / name, Store(tmp_path / "store")
    log.write_text(text)
    summary = ingest([log], store, settings=IngestionSettings.model_validate(settings))
    return {str(repair): count for repair, count in summary.repaired.items()}, list(store.conversations())


@pytest.mark.parametrize("form", ["{}.5", "2024-05-01 10:{:02} UTC"])
def test_a_table_of_dify_with_the_newest_first_is_read_in_order(tmp_path, form):
    times = [form.format(TEN + 60), form.format(TEN)] if form[0] == "{" else [form.format(1), form.format(0)]
    rows = [f"c,2,second,B,{times[0]},{{}}", f"c,1,first,A,{times[1]},{{}}"]
    head = "conversation_id,id,query,answer,created_at,inputs"
    _, (only,) = ingested(tmp_path, "a.csv", "\n".join((head, *rows, "")))
    assert [message.content for message in only.messages] == ["first", "A", "second", "B"]


def generation(name: str, text: str, at: object) -> str:
    return orjson.dumps({
        "type": "GENERATION", "id": name, "traceId": name, "sessionId": "s", "startTime": at,
        "input": [{"role": "user", "content": text}], "output": {"role": "assistant", "content": "re"},
    }).decode()  # fmt: skip


@pytest.mark.parametrize("times", [["2024-05-01 10:02:00 UTC", "2024-05-01 10:01:00 UTC"], [f"{TEN}.5", f"{TEN}.25"]])
def test_calls_of_a_session_are_joined_by_any_time(tmp_path, times):
    log = "\n".join(map(generation, "ba", ("second", "first"), times))
    repaired, (only,) = ingested(tmp_path, "a.jsonl", log)
    assert [message.content for message in only.messages] == ["first", "re", "second", "re"]
    assert not repaired


def test_a_time_that_nobody_can_read_is_counted(tmp_path):
    rows = [orjson.dumps({"timestamp": at, "messages": [
        {"role": "user", "content": str(at)}, {"role": "assistant", "content": "a"},
    ]}).decode() for at in ("yesterday", TEN, None)]  # fmt: skip
    repaired, _ = ingested(tmp_path, "a.jsonl", "\n".join(rows))
    assert repaired == {"time_not_read": 1}


def test_a_mapped_time_without_separators_is_a_date(tmp_path):
    rows = ["c,user,q,20240501100000", "c,bot,a,20240501100001"]
    columns = {"conversation": "c", "role": "who", "content": "said", "time": "at"}
    _, (only,) = ingested(tmp_path, "a.csv", "\n".join(("c,who,said,at", *rows, "")), map=columns)
    assert only.started_at == "2024-05-01T10:00:00+00:00"
