"""What a refusal advises can be done: rows inside one object, two batches in one folder."""

import orjson
import pytest

from drift.errors import DataError
from drift.logs.ingest import check_usable, ingest
from drift.store import Store

CHAT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "5"}]
FLAT = [{"content": "2+2?", "author": {"isBot": False}}, {"content": "5", "author": {"isBot": True}}]
AROUND = [
    ({"success": True, "data": [{"id": "1", "messages": CHAT}]}, "jq -c '.data[]' FILE > rows.jsonl"),
    ({"conversations": [{"id": "1", "messages": CHAT}]}, "jq -c '.conversations[]' FILE"),
    ({"data": {"chats": [{"messages": CHAT}]}, "checksum": "x"}, "jq -c '.data.chats[]' FILE"),
    ({"all chats": [{"messages": CHAT}]}, """jq -c '.["all chats"][]' FILE"""),
    ({"guild": {"id": "1"}, "messages": FLAT}, """jq -c '.messages[] + {chat: "1"}' FILE > rows.jsonl"""),
    ({"state": {"rows": [{**FLAT[0], "sessionId": "s"}]}}, "jq -c '.state.rows[]' FILE"),
]


@pytest.mark.parametrize("indent", [0, orjson.OPT_INDENT_2])
@pytest.mark.parametrize(("row", "command"), AROUND)
def test_rows_inside_one_object_are_to_be_taken_out(tmp_path, row, command, indent):
    log = tmp_path / "logs" / "log.json"
    log.parent.mkdir()
    log.write_bytes(orjson.dumps(row, option=indent))
    with pytest.raises(DataError) as refused:
        ingest([log], Store(tmp_path / "store"))
    assert command in str(refused.value)
    summary = ingest([log.parent], Store(tmp_path / "store"))
    assert command in summary.skipped[str(log)]


@pytest.mark.parametrize("row", [{"name": "x", "version": 1}, {"list": [1, 2]}, {"empty": []}])
def test_without_a_list_of_objects_nothing_is_to_be_taken_out(tmp_path, row):
    log = tmp_path / "log.json"
    log.write_bytes(orjson.dumps(row))
    with pytest.raises(DataError) as refused:
        ingest([log], Store(tmp_path / "store"))
    assert "jq" not in str(refused.value)


def test_two_batches_of_equal_names_are_not_to_be_mapped(tmp_path):
    row = {"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions"}
    for name in ("a", "b"):
        body = {"messages": [{"role": "user", "content": f"another request in {name}"}]}
        (tmp_path / f"{name}.jsonl").write_bytes(orjson.dumps({**row, "body": body}))
    summary = ingest([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], Store(tmp_path / "store"))
    with pytest.raises(DataError, match=r"each batch by itself\.$") as refused:
        check_usable(summary)
    assert "--map" not in str(refused.value)
