"""A null is nothing: tables and dumps of objects give every row the keys of all, and most of them hold null."""

from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drift.logs.readers import READERS

SEEDS = Path(__file__).parents[1] / "seeds"
CHAT = [("user", "2+2?"), ("assistant", "5"), ("user", "That is wrong."), ("assistant", "4")]
MESSAGES = [{"role": role, "content": text} for role, text in CHAT]
NULLS = {"parts": None, "contents": None, "candidates": None, "choices": None, "tool_calls": None, "type": None}


def keys_of(name: str) -> set[str]:
    return {key for row in (SEEDS / f"{name}.jsonl").read_bytes().splitlines() for key in orjson.loads(row)}


@pytest.mark.parametrize("name", READERS)
def test_keys_of_another_format_that_hold_nothing_hide_no_chat(read, name):
    told = read({**dict.fromkeys(keys_of(name)), "messages": MESSAGES})
    assert (told.formats, told.texts()) == (["messages"], CHAT)


def native(messages):
    return {"messages": messages}


def gateway(messages):
    return {"request": native(messages[:-1]), "response": {"choices": [{"message": messages[-1]}]}}


def observation(messages):
    call = {"id": "o", "type": "GENERATION", "traceId": "t", "startTime": "2024-05-01T10:00:00Z"}
    return {**call, "input": messages[:-1], "output": messages[-1]}


def span(messages):
    attributes = {"gen_ai.input.messages": messages[:-1], "gen_ai.output.messages": messages[-1:]}
    return {"trace_id": "t", "span_id": "s", "name": "chat", "attributes": attributes}


@pytest.mark.parametrize("log", [native, gateway, observation, span])
@pytest.mark.parametrize("as_parquet", [False, True])
def test_keys_of_a_message_that_hold_nothing_lose_no_text(read, read_files, tmp_path, log, as_parquet):
    row = log([{**message, **NULLS} for message in MESSAGES])
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "log.parquet")
    told = read_files(tmp_path / "log.parquet") if as_parquet else read(row)
    assert (told.texts(), told.rejects) == (CHAT, [])


@pytest.mark.parametrize("part", [
    {"type": None, "text": "5", "toolUse": None, "image": None, "cachePoint": None},
    {"type": "text", "text": None, "content": "5"},
    {"type": "text", "text": "5", "image_url": None, "citations": None},
])  # fmt: skip
def test_parts_of_a_message_with_the_keys_of_other_parts(read, part):
    told = read(native([MESSAGES[0], {"role": "assistant", "content": [part]}]))
    assert told.texts() == CHAT[:2]


def test_a_message_with_a_null_role_has_the_role_under_its_other_name(read):
    both = [{"role": None, "content": None, "from": role, "value": text} for role, text in CHAT]
    assert read(native(both)).texts() == CHAT


def test_a_preference_file_names_the_row_in_which_a_side_is_null(read):
    whole = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
    told = read(whole, {**whole, "rejected": None})
    assert (told.formats, len(told.conversations), told.reasons) == (["preference"], 1, ["no_messages"])
    assert "rejected is not a reply" in told.rejects[0].detail


def test_a_preference_row_with_the_columns_of_several_tools(read):
    row = {"prompt": "2+2?", "chosen": None, "rejected": None, "response_chosen": "4", "response_rejected": "5"}
    assert read(row).only.ratings[0].preferred == "4"
