"""Tool calls, reasoning and tools come back from the store; stores of earlier versions, without them, are read."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from drift.records import (
    ChatMessage,
    Conversation,
    FunctionCall,
    Message,
    PromptItem,
    ToolCall,
    json_of,
    read_jsonl,
    write_jsonl,
)
from drift.store import AddSummary, Store

CALL = ToolCall(FunctionCall("balance", '{"of": "user"}'), "k")
CHAT = Conversation(
    "id",
    "test",
    None,
    (
        Message("user", "What is my balance?", None, 0),
        Message("assistant", "", None, 1, tool_calls=(CALL, ToolCall(FunctionCall("rate", "no JSON {")))),
        Message("tool", "12.50", None, 2, tool_call_id="k", name="balance"),
        Message("assistant", "125", None, 3, reasoning="12.50 is 125"),
        Message("user", "No.", None, 4),
    ),
    "train",
    tools='[{"type": "function"}]',
)
PLAIN = replace(CHAT, messages=(*CHAT.messages[:1], *CHAT.messages[4:]), tools=None)


def test_a_conversation_with_calls_comes_back_as_it_was(tmp_path):
    store = Store(tmp_path / "store")
    assert store.add([CHAT]) == AddSummary(1, 0, 0)
    assert store.add([CHAT]) == AddSummary(0, 0, 1)
    assert list(store.conversations()) == [CHAT]


def test_a_version_with_calls_replaces_the_one_without(tmp_path):
    store = Store(tmp_path / "store")
    store.add([PLAIN])
    assert store.add([CHAT]) == AddSummary(0, 1, 0)
    assert list(store.conversations()) == [CHAT]


def test_a_store_of_an_earlier_version_is_read_and_grows(tmp_path):
    store = Store(tmp_path / "store")
    store.add([PLAIN])
    before = store.content_hash()
    (file,) = (store.path / "conversations").iterdir()
    table = pq.read_table(file)
    old = pa.list_(
        pa.struct([part for part in table.schema.field("messages").type.value_type if part.name != "extras"])
    )
    rows = [
        [{name: value for name, value in message.items() if name != "extras"} for message in messages]
        for messages in table["messages"].to_pylist()
    ]
    column = table.schema.get_field_index("messages")
    pq.write_table(table.set_column(column, "messages", pa.array(rows, old)).drop_columns(["tools"]), file)
    assert list(store.conversations()) == [PLAIN]
    assert store.content_hash() == before
    assert store.add([PLAIN]) == AddSummary(0, 0, 1)
    assert store.add([replace(CHAT, conversation_id="new")]) == AddSummary(1, 0, 0)
    assert list(store.conversations()) == [PLAIN, replace(CHAT, conversation_id="new")]


def test_rows_of_jsonl_hold_only_the_extras_that_are_set(tmp_path):
    plain = ChatMessage("user", "a")
    calling = ChatMessage("assistant", "", tool_calls=(CALL,))
    assert json_of([plain]) == b'[{"role":"user","content":"a"}]'
    assert b"is_cut" not in json_of(Message("assistant", "a", is_cut=True))  # of a log that is being read, only
    item = PromptItem("p", "c", 1, (plain, calling), "train", rejected=ChatMessage("assistant", "x", reasoning="r"))
    write_jsonl(tmp_path / "items.jsonl", [item])
    assert list(read_jsonl(tmp_path / "items.jsonl", PromptItem)) == [item]
