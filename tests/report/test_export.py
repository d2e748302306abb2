import json
from dataclasses import replace
from pathlib import Path

import pytest

from drift.errors import DataError
from drift.progress import listening
from drift.records import (
    ChatMessage,
    Conversation,
    FunctionCall,
    Message,
    PreferencePair,
    ToolCall,
    write_jsonl,
)
from drift.report.export import export_run, trl_row, trl_unpaired_row
from drift.rundir import RunDir
from drift.store import Store

PAIR = PreferencePair(
    "p", "q", "c", 1, "drift", 1, "abc", (ChatMessage("user", "hi"),), (ChatMessage("assistant", "yes"),),
    (ChatMessage("assistant", "no"),),
)  # fmt: skip


def write_pair(out: Path) -> dict[str, int]:
    return {"rows": write_jsonl(out, [PAIR])}


def copy_rows(out: Path, rows: Path) -> dict[str, int]:
    out.write_bytes(rows.read_bytes())
    return {}


def write_policy(out: Path) -> dict[str, int]:
    out.mkdir()
    (out / "config.json").write_text("{}")
    return {}


def test_the_model_the_pairs_of_all_iterations_and_the_report_are_copied(tmp_path):
    with RunDir.open(tmp_path / "run", "name: x\n", seed=1) as run:
        run.stage("warm-start/pairs.jsonl", write_pair)
        run.iteration(1).stage("pairs.jsonl", write_pair)
        run.stage("policy", write_policy)
    done = export_run(tmp_path / "run", tmp_path / "out")
    assert done.rows == 2
    assert (tmp_path / "out" / "model" / "config.json").read_text() == "{}"
    row = json.loads((tmp_path / "out" / "pairs.jsonl").read_text().splitlines()[0])
    assert row["prompt"] == [{"role": "user", "content": "hi"}]
    assert row["chosen"] == [{"role": "assistant", "content": "yes"}]
    assert row["rejected"] == [{"role": "assistant", "content": "no"}]
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_without_a_policy_and_a_full_folder_are_refused(tmp_path):
    with RunDir.open(tmp_path / "run", "name: x\n", seed=1) as run:
        run.iteration(1).stage("pairs.jsonl", write_pair)
    with pytest.raises(DataError, match="no policy to export"):
        export_run(tmp_path / "run", tmp_path / "out")
    with RunDir.open(tmp_path / "run", "name: x\n", seed=1) as run:
        run.stage("policy", write_policy)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(DataError, match="already exists"):
        export_run(tmp_path / "run", tmp_path / "out")


def test_tool_calls_thoughts_and_tools_have_trls_shape():
    call = ToolCall(FunctionCall("sort", '{"words": ["moon"]}'), "k")
    broken = ToolCall(FunctionCall("sort", "{cut"))
    prompt = (
        ChatMessage("user", "hi"),
        ChatMessage("assistant", "", tool_calls=(call, broken), reasoning="hm"),
        ChatMessage("tool", "moon", tool_call_id="k", name="sort"),
    )
    row = trl_row(replace(PAIR, prompt=prompt, tools='[{"type": "function", "function": {"name": "sort"}}]'))
    assert row["tools"] == [{"type": "function", "function": {"name": "sort"}}]
    function = {"name": "sort", "arguments": {"words": ["moon"]}}
    assert row["prompt"] == [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [
                {"function": function, "id": "k", "type": "function"},
                {"function": {"name": "sort", "arguments": "{cut"}, "type": "function"},
            ],
        },
        {"role": "tool", "content": "moon", "tool_call_id": "k", "name": "sort"},
    ]
    assert "tools" not in trl_row(PAIR)


def test_replies_without_a_partner_have_trls_unpaired_shape(tmp_path):
    liked, disliked = replace(PAIR, rejected=()), replace(PAIR, chosen=())

    row = trl_unpaired_row(disliked)
    assert (row["completion"], row["label"]) == ([{"role": "assistant", "content": "no"}], False)
    assert not {"chosen", "rejected"} & row.keys()
    unjudged = trl_unpaired_row(replace(liked, follow_up=ChatMessage("user", "why?")))
    assert unjudged["follow_up"] == {"role": "user", "content": "why?"}
    assert "label" not in unjudged
    assert "follow_up" not in row
    with RunDir.open(tmp_path / "run", "name: x\n", seed=1) as run:
        write_jsonl(tmp_path / "rows.jsonl", [PAIR, liked, replace(disliked, rejected_finish="length")])
        write_jsonl(tmp_path / "liked.jsonl", [replace(liked, pair_id="sft")])
        run.folder("liked-start").stage("pairs.jsonl", copy_rows, rows=tmp_path / "liked.jsonl")
        run.iteration(1).stage("pairs.jsonl", copy_rows, rows=tmp_path / "rows.jsonl")
        run.stage("policy", write_policy)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        assert export_run(tmp_path / "run", tmp_path / "out").rows == 4
    assert [note.split(" have ")[0] for note in notes] == ["1 of 4 rows"]
    assert len((tmp_path / "out/pairs.jsonl").read_text().splitlines()) == 1
    found = [json.loads(line) for line in (tmp_path / "out/unpaired.jsonl").read_text().splitlines()]
    assert [(row["completion"][0]["content"], row["label"]) for row in found] == [
        ("yes", True),
        ("yes", True),
        ("no", False),
    ]


def test_what_was_forgotten_is_not_written_again(tmp_path):
    """Rows of a forgotten conversation are left out and counted, of iterations that were not kept too."""
    store = Store(tmp_path / "store")
    talk = (Message("user", "hi"), Message("assistant", "no"))
    store.add([Conversation(name, "test", name, talk, "train") for name in ("c", "d")])
    rows = [PAIR, replace(PAIR, conversation_id="d", rejected_finish="length"), replace(PAIR, rejected=())]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with RunDir.open(tmp_path / "run", f"store: {store.path}\n", seed=1) as run:
        for k in (1, 2):
            run.iteration(k).stage("pairs.jsonl", copy_rows, rows=tmp_path / "rows.jsonl")
        run.stage("policy", write_policy)
    assert export_run(tmp_path / "run", tmp_path / "before").rows == 6
    store.forget(conversation="c")
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        assert export_run(tmp_path / "run", tmp_path / "out").rows == 2
    assert notes[0] == "4 rows of conversations that were forgotten since are left out"
    assert notes[1].startswith("2 of 2 rows have a reply that was cut")
    written = [json.loads(line) for line in (tmp_path / "out/pairs.jsonl").read_text().splitlines()]
    assert [row["conversation_id"] for row in written] == ["d", "d"]
    assert not (tmp_path / "out/unpaired.jsonl").exists()


def test_a_store_that_is_gone_is_named_because_it_knows_what_was_forgotten(tmp_path):
    with RunDir.open(tmp_path / "run", f"store: {tmp_path / 'gone'}\n", seed=1) as run:
        run.pin_reading(1, "s", ())
        run.stage("policy", write_policy)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        export_run(tmp_path / "run", tmp_path / "out")
    assert any("nobody knows what was forgotten since: nothing is left out" in note for note in notes)
