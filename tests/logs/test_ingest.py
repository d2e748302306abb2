"""Files into a store: counts that add up, growth, bad input, interrupts."""

from dataclasses import replace
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift.config import IngestionSettings
from drift.errors import DataError
from drift.logs.ingest import IngestSummary, check_usable, ingest, preview
from drift.records import Reason
from drift.store import Store


def chat(number: int, turns: int = 1) -> dict:
    messages = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"question {number} {turn}"})
        messages.append({"role": "assistant", "content": f"answer {turn}"})
    return {"messages": messages}


def write(path: Path, *rows: dict | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows))
    return path


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def test_the_same_file_twice_adds_nothing(tmp_path, store):
    log = write(tmp_path / "log.jsonl", chat(1), chat(2), b"{")
    assert ingest([log], store) == IngestSummary(3, 2, 0, 0, 0, {Reason.BROKEN_JSON: 1})
    before = (store.content_hash(), list(store.quarantined()))
    assert ingest([log], store) == IngestSummary(3, 0, 0, 2, 0, {Reason.BROKEN_JSON: 1})
    assert (store.content_hash(), list(store.quarantined())) == before


def test_a_log_that_has_grown_updates(tmp_path, store):
    ingest([write(tmp_path / "log.jsonl", chat(1), chat(2))], store)
    grown = write(tmp_path / "log.jsonl", chat(1, turns=3), chat(2), chat(3))
    assert ingest([grown], store) == IngestSummary(3, accepted=1, updated=1, duplicate=1)
    assert sorted(len(conversation.messages) for conversation in store.conversations()) == [2, 2, 6]
    older = write(tmp_path / "old.jsonl", chat(1, turns=2))
    assert ingest([older], store) == IngestSummary(1, duplicate=1)


def test_a_thumb_that_came_later_updates(tmp_path, store):
    ingest([write(tmp_path / "log.jsonl", chat(1))], store)
    assert ingest([write(tmp_path / "log.jsonl", {**chat(1), "feedback": "down"})], store).updated == 1
    (conversation,) = store.conversations()
    assert conversation.ratings[0].value == -1.0


def test_an_id_of_the_log_tells_equal_chats_apart_within_a_source(tmp_path, store):
    log = write(tmp_path / "log.jsonl", {**chat(1), "id": "a"}, {**chat(1), "id": "b"}, {**chat(1), "id": 7})
    assert ingest([log], store).accepted == 3
    assert ingest([log], store, source="elsewhere").accepted == 3
    assert {c.source_id for c in store.conversations()} == {"a", "b", "7"}


rows = st.one_of(
    st.builds(chat, st.integers(0, 3), st.integers(1, 3)),
    st.sampled_from(
        [b"{", b"7", b"", b"null", {"messages": []}, {"messages": [{"role": "x", "content": ""}]}, {"other": 1}]
    ),
)


@settings(max_examples=30, deadline=None)
@given(mixed=st.lists(st.lists(rows, max_size=6), min_size=1, max_size=3))
def test_the_counts_add_up_over_any_rows(tmp_path_factory, mixed):
    folder = tmp_path_factory.mktemp("mixed")
    store = Store(folder / "store")
    longest: dict[str, int] = {}
    for number, content in enumerate(mixed):
        summary = ingest([write(folder / f"{number}.jsonl", b"null", *content)], store, format="messages")
        assert summary.adds_up
        assert summary.read == 1 + sum(row != b"" for row in content)
        for row in content:
            if isinstance(row, dict) and len(row.get("messages", [])) > 1:
                key = row["messages"][0]["content"]
                longest[key] = max(longest.get(key, 0), len(row["messages"]))
    assert {c.messages[0].content: len(c.messages) for c in store.conversations()} == longest


def test_quarantined_rows_know_file_and_line(tmp_path, store):
    log = write(tmp_path / "log.jsonl", chat(1), b'{"messages": [', b"", {"messages": [{"role": "nobody"}]})
    ingest([log], store)
    found = [(row.file, row.line, row.reason) for row in store.quarantined()]
    assert found == [(str(log), 2, Reason.BROKEN_JSON), (str(log), 4, Reason.UNKNOWN_ROLE)]


def test_a_folder_is_read_in_order_and_reports_progress(tmp_path, store):
    logs = tmp_path / "logs"
    write(logs / "b.jsonl", chat(1))
    pq.write_table(pa.Table.from_pylist([chat(2)]), logs / "c.parquet")
    write(logs / "deep" / "a.json", b"[" + orjson.dumps(chat(3)) + b"]")
    write(logs / "notes.txt", b"not a log")
    steps: list[tuple[int, int]] = []
    assert ingest([logs], store, on_progress=lambda done, total: steps.append((done, total))).accepted == 3
    size = sum(file.stat().st_size for file in logs.rglob("*.[jp]*"))
    assert steps == sorted(steps)
    assert steps[-1] == (size, size)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b" \n\n", "no row"),
        (b"[]", "no row"),
        (b"just text\nand more\n", "no row"),
        (b"\x89PNG\r\n\x1a\n\x00\x01", "no row"),
        (b"PAR1 and then rubbish", "the Parquet file is damaged"),
        (b'{"question": "a", "answer": "b"}\n', "unknown log format .this row has the keys question, answer"),
    ],
)
def test_files_that_are_no_log_are_named_in_one_line(tmp_path, store, content, says):
    log = tmp_path / "log.jsonl"
    if content is not None:
        log.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        ingest([log], store)
    assert str(log) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not store.path.exists()


def test_an_unknown_format_lists_those_that_are_known(tmp_path, store):
    with pytest.raises(DataError, match=r"wildfeedback, drift, ultrafeedback, wildchat, openwebui, .*, messages"):
        ingest([tmp_path], store, format="csv")


def test_a_folder_without_logs_is_refused(tmp_path, store):
    with pytest.raises(DataError, match=r"no .json, .jsonl, .ndjson, .parquet, .csv, .tsv .* file"):
        ingest([tmp_path], store)


def test_a_wrong_format_quarantines_every_row(tmp_path, store):
    log = write(tmp_path / "log.jsonl", chat(1), chat(2))
    assert ingest([log], store, format="sharegpt").quarantined == {Reason.NO_MESSAGES: 2}


def test_large_messages_null_bytes_and_half_characters_go_through(tmp_path, store):
    large = 'line \\ "quoted"\n' * 350_000
    odd = b'{"messages": [{"role": "user", "content": "a\\u0000b \\ud83d c"}, {"role": "assistant", "content": "ok"}]}'
    log = write(tmp_path / "log.jsonl", odd, {"messages": [{"role": "user", "content": large}]})
    assert ingest([log], store).accepted == 2
    contents = {conversation.messages[0].content for conversation in store.conversations()}
    assert contents == {large, "a\x00b \ufffd c"}


@pytest.mark.parametrize("before", [0, 1])
def test_an_interrupted_ingest_leaves_the_store_as_it_was(tmp_path, store, before):
    if before:
        ingest([write(tmp_path / "first.jsonl", chat(0), b"{")], store)
    files = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    log = write(tmp_path / "log.jsonl", chat(0, turns=2), chat(1), b"[")
    with pytest.raises(KeyboardInterrupt):
        ingest([log], store, on_progress=interrupt)
    assert {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()} == files
    assert store.path.exists() == bool(before)
    assert ingest([log], store).accepted == 2 - before


def test_the_real_chats(test_data, tmp_path, store):
    log = test_data / "logs" / "sharegpt_real.json"
    as_they_are = IngestionSettings(redact=False)
    summary = ingest([log], store, settings=as_they_are)
    assert (summary.read, summary.accepted, summary.quarantined) == (586, 581, {Reason.NO_USER_TURN: 5})
    original = {row["id"]: row["conversations"] for row in orjson.loads(log.read_bytes())}
    for conversation in store.conversations():
        turns = original[conversation.source_id]
        assert [m.content for m in conversation.messages] == [
            turns[m.source_index]["value"] for m in conversation.messages
        ]
    assert ingest([log], store, settings=as_they_are).duplicate == 581


def test_a_preview_shows_what_would_be_stored_and_stores_nothing(tmp_path, store):
    log = write(tmp_path / "log.jsonl", chat(1), {**chat(2), "feedback": "up"}, chat(3), chat(4), b"{")
    shown = preview([log], store)
    assert not store.path.exists()
    assert shown.summary == IngestSummary(5, accepted=4, quarantined={Reason.BROKEN_JSON: 1})
    assert shown.files == {str(log): "messages"}
    ingest([log], store)
    stored = {c.conversation_id: c for c in store.conversations()}
    assert [replace(stored[c.conversation_id], user_key=None) for c in shown.examples] == shown.examples
    assert len(shown.examples) == 3
    before = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}
    grown = write(tmp_path / "log.jsonl", chat(1, turns=2), chat(2), chat(5))
    assert preview([grown], store).summary == IngestSummary(3, accepted=1, updated=1, duplicate=1)
    assert {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()} == before


def test_an_ambiguous_file_lists_the_candidates_and_a_name_decides(tmp_path, store):
    both = {**chat(1), "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}
    log = write(tmp_path / "log.jsonl", both)
    with pytest.raises(DataError, match=r"could be sharegpt \(line 1\), messages \(line 1\).*--format"):
        ingest([log], store)
    assert ingest([log], store, format="messages").accepted == 1
    mixed = write(tmp_path / "mixed.jsonl", chat(1), {"id": "x", "conversations": [{"from": "human", "value": "hi"}]})
    with pytest.raises(DataError, match=r"messages \(line 1\), sharegpt \(line 2\)|sharegpt \(line 2\), messages"):
        ingest([mixed], store)


def test_a_precise_format_wins_over_a_plain_one(tmp_path, store):
    """LiteLLM's rows hold `messages` too."""
    row = {**chat(1), "response": {"choices": []}, "call_type": "completion"}
    assert ingest([write(tmp_path / "log.jsonl", row)], store).formats == {"litellm": 1}


FOREIGN = [
    {"messages": [{"type": "human", "content": "q"}, {"type": "ai", "content": "a"}]},
    {"messages": [{"role": "user", "parts": [{"type": "text", "text": "q"}]}]},
    {"messages": [{"role": "user", "contentParts": [{"type": "text", "text": "q"}]}]},
    {"messages": [{"text": "q", "isCreatedByUser": True, "sender": "User"}]},
    {"messages": [{"versions": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]}]},
    {"messages": ["q", "a"]},
    {"messages": "[]"},
    {"conversations": [{"speaker": "a", "text": "q"}]},
]


@pytest.mark.parametrize("row", FOREIGN)
def test_the_name_of_a_list_of_messages_claims_no_format(row):
    from drift.logs.readers.training import messages, sharegpt

    assert not messages.recognises(row)
    assert not sharegpt.recognises(row)


def test_an_unknown_format_says_what_the_native_one_is_and_that_columns_can_be_mapped(tmp_path, store):
    log = write(tmp_path / "log.jsonl", {"thread": 1, "messages": [{"kind": "x", "words": "q"}]})
    with pytest.raises(DataError, match="the keys thread, messages; 'messages' holds kind, words") as caught:
        ingest([log], store)
    assert '{"messages": [{"role": "user", "content": "2+2?"}' in str(caught.value)
    assert "--map conversation=COLUMN,role=COLUMN,content=COLUMN" in str(caught.value)


def test_a_foreign_file_of_a_folder_is_named_and_skipped_and_one_that_is_named_is_an_error(tmp_path, store):
    logs = tmp_path / "logs"
    write(logs / "chats.jsonl", chat(1))
    foreign = write(logs / "package.json", {"name": "app", "version": "1", "scripts": {}})
    (logs / "README.md").write_text("hello")
    (logs / "prices.csv").write_text("item,price\nfig,1\n")
    (logs / "empty.json").write_text("")
    (logs / "notes.json").write_text("no json\n")
    summary = ingest([logs], store)
    assert (summary.accepted, summary.rows) == (1, 1)
    assert {Path(name).name: why for name, why in summary.skipped.items()} == {
        "package.json": "unknown log format (this row has the keys name, version, scripts)",
        "README.md": "another kind of file",
        "prices.csv": "unknown log format (this row has the keys item, price)",
        "empty.json": "the file is empty",
        "notes.json": "no rows of JSON Lines, a JSON array, Parquet or CSV",
    }
    for path in (foreign, logs / "prices.csv"):
        with pytest.raises(DataError, match=r"unknown log format"):
            ingest([logs, path], store)


def test_logs_of_which_nothing_is_usable_are_an_error_that_says_what_became_of_them(tmp_path, store):
    log = write(tmp_path / "log.jsonl", {"messages": [{"role": "nobody", "content": "x"}]}, b"{", b"{")
    with pytest.raises(DataError) as caught:
        check_usable(ingest([log], store))
    said = str(caught.value)
    assert "3 rows read as messages: 2 broken_json" in said
    assert f"1 unknown_role ({log}:1: message 0 has role 'nobody'" in said
    assert "--map" in said
    assert "\n" not in said
    assert len(list(store.quarantined())) == 3  # noted, so that the user can look
    write(tmp_path / "logs" / "package.json", {"name": "app"})
    with pytest.raises(DataError, match=r"in these logs: \S*package.json skipped .unknown log format"):
        check_usable(preview([tmp_path / "logs"], store).summary)
    good = write(tmp_path / "good.jsonl", chat(1), b"{")
    asked = IngestionSettings(require_consent={"consent": "yes"})
    with pytest.raises(DataError, match=r"1 no_consent.*They were read, but --require-consent") as caught:
        check_usable(ingest([good], store, settings=asked))
    assert "--map" not in str(caught.value)  # their columns are right
    thumb = {"id": "a", "conversation_id": "c", "rating": "thumbs_down"}
    with pytest.raises(DataError, match=r"1 orphan_feedback.*together with the chats that they are about.$"):
        check_usable(ingest([write(tmp_path / "thumbs.jsonl", thumb)], store))
    check_usable(ingest([good], store))
    check_usable(ingest([good], store))  # all duplicates


def test_a_batch_without_its_other_half_says_to_ingest_both(tmp_path):
    message = {"role": "user", "content": "hi"}
    body = {"model": "m", "messages": [message]}
    asked = {"custom_id": "r", "method": "POST", "url": "/v1/chat/completions", "body": body}
    summary = ingest([write(tmp_path / "requests.jsonl", asked)], Store(tmp_path / "store"))
    with pytest.raises(DataError, match=r"Ingest the requests and the replies of a batch together\.$"):
        check_usable(summary)
