"""Tool calls, thoughts and media of logs: read in every shape, kept, counted, and turned into pairs or named drops."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from drift.feedback.embedded.labeller import reactions
from drift.feedback.judge.window import windows
from drift.feedback.label import label_store
from drift.logs.draft import messages_of
from drift.logs.files.rows import Unusable
from drift.logs.ingest import IngestSummary, ingest
from drift.logs.near_duplicates import signature
from drift.pairs.stages import write_pairs
from drift.records import Conversation, FunctionCall, Message, PromptItem, Reason, ToolCall, read_jsonl
from drift.store import Store

USER = {"role": "user", "content": "Sort: moon eagle"}
REPLY = {"role": "assistant", "content": "moon eagle"}
COMPLAINT = {"role": "user", "content": "That is wrong, you did not sort them at all."}
ARGUMENTS = '{"words": ["moon"]}'
CALL = {"id": "k", "type": "function", "function": {"name": "sort", "arguments": ARGUMENTS}}
SORT = ToolCall(FunctionCall("sort", ARGUMENTS), "k")


def stored(tmp_path: Path, *rows: dict[str, Any]) -> tuple[IngestSummary, list[Conversation]]:
    log, store = tmp_path / "log.jsonl", Store(tmp_path / "store")
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    summary = ingest([log], store)
    assert summary.adds_up
    return summary, list(store.conversations())


def pairs_of(tmp_path: Path, *rows: dict[str, Any]) -> tuple[dict[str, int | float], list[PromptItem]]:
    stored(tmp_path, *rows)
    return paired(Store(tmp_path / "store"), tmp_path / "prompts.jsonl")


def paired(store: Store, out: Path) -> tuple[dict[str, int | float], list[PromptItem]]:
    label_store(store)
    counts = write_pairs(store, out, 0.5).prompt_counts
    return counts, list(read_jsonl(out, PromptItem))


def read_or_reason(entries: list[dict[str, Any]]) -> Any:
    """The messages, or the reason why they are refused."""
    try:
        return messages_of(entries)
    except Unusable as refused:
        return refused.reason


def assistant(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **fields}


@pytest.mark.parametrize(
    "said",
    [
        assistant(tool_calls=[CALL]),
        assistant(tool_calls=orjson.dumps([CALL]).decode()),
        assistant(content=[{"type": "tool_call", "id": "k", "name": "sort", "arguments": ARGUMENTS}]),
        assistant(tool_calls=[{"id": "k", "name": "sort", "args": ARGUMENTS, "type": "tool_call"}]),
        assistant(content=[{"type": "tool-call", "toolCallId": "k", "toolName": "sort", "args": ARGUMENTS}]),
        {"from": "function_call", "value": orjson.dumps({"name": "sort", "arguments": ARGUMENTS, "id": "k"}).decode()},
        {"role": "tool_call", "content": orjson.dumps({"name": "sort", "arguments": ARGUMENTS, "id": "k"}).decode()},
    ],
)
def test_a_call_is_read_in_every_shape(said):
    (message,) = messages_of([said])
    assert (message.role, message.content, message.tool_calls) == ("assistant", "", (SORT,))


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        (assistant(function_call={"name": "sort", "arguments": ARGUMENTS}), ARGUMENTS),
        (assistant(content=[{"type": "tool_use", "name": "sort", "input": {"words": ["moon"]}}]), '{"words":["moon"]}'),
        (assistant(tool_calls=[{"function": {"name": "sort", "arguments": {"n": 1}}}]), '{"n":1}'),
        (assistant(tool_calls=[{"function": {"name": "sort", "arguments": ""}}]), "{}"),
        (assistant(tool_calls=[{"function": {"name": "sort"}}]), "{}"),
        (assistant(tool_calls={"function": {"name": "sort", "arguments": "{cut"}}), "{cut"),
    ],
)
def test_arguments_are_json_text_whatever_they_were(said, arguments):
    (message,) = messages_of([said])
    assert message.tool_calls == (ToolCall(FunctionCall("sort", arguments)),)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"role": "tool", "tool_call_id": "k", "name": "sort", "content": "done"}, ("done", "k", "sort")),
        ({"role": "function", "name": "sort", "content": "done"}, ("done", None, "sort")),
        ({"from": "observation", "value": "done"}, ("done", None, None)),
        ({"role": "tool_response", "content": "done"}, ("done", None, None)),
        ({"role": "tool", "content": None}, ("", None, None)),
        ({"role": "tool", "content": {"ok": True}}, ('{"ok":true}', None, None)),
        (
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "k", "content": [{"type": "image"}]}]},
            ("[image]", "k", None),
        ),
        (
            {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "k", "toolName": "sort", "result": 3}]},
            ("3", "k", "sort"),
        ),
    ],
)
def test_an_answer_is_read_in_every_shape(answer, expected):
    (message,) = messages_of([answer])
    assert message.role == "tool"
    assert (message.content, message.tool_call_id, message.name) == expected


def test_calls_that_are_messages_of_their_own_belong_to_one_turn():
    said = [USER, *({"role": "tool_call", "content": {"name": name}} for name in "ab"), {**REPLY}]
    messages = messages_of([said[0], {"role": "assistant", "content": "I look."}, *said[1:]])
    assert [m.role for m in messages] == ["user", "assistant", "assistant"]
    assert (messages[1].content, [call.function.name for call in messages[1].tool_calls]) == ("I look.", ["a", "b"])


@pytest.mark.parametrize(
    ("fields", "content", "reasoning"),
    [
        ({"content": "4", "reasoning_content": "2+2"}, "4", "2+2"),
        ({"content": "4", "reasoning": "2+2"}, "4", "2+2"),
        ({"content": "4", "thinking": "2+2"}, "4", "2+2"),
        ({"content": None, "reasoning_content": "2+2"}, "", "2+2"),
        ({"content": [{"type": "thinking", "thinking": "2+2"}, {"type": "text", "text": "4"}]}, "4", "2+2"),
        ({"content": [{"type": "reasoning", "content": "2+2"}, {"type": "text", "content": "4"}]}, "4", "2+2"),
        ({"content": "<think>\n2+2\n</think>\n\n4"}, "4", "2+2"),
        ({"content": "2+2\n</think>\n\n4"}, "4", "2+2"),
        ({"content": "[THINK]2+2[/THINK]4"}, "4", "2+2"),
        ({"content": "<think>2+2 is"}, "", "2+2 is"),  # cut
        ({"content": "Write `</think>` to end them."}, "Write `</think>` to end them.", None),
        ({"content": "The </think> mark ends them."}, "The </think> mark ends them.", None),
        ({"content": "```\na</think>b\n```"}, "```\na</think>b\n```", None),
        ({"content": "See <think> there."}, "See <think> there.", None),
        ({"content": "4", "reasoning_content": ""}, "4", None),
        ({"content": "4", "reasoning": True}, "4", None),
    ],
)
def test_thoughts_stand_apart_from_the_answer(fields, content, reasoning):
    (message,) = messages_of([{"role": "assistant", **fields}])
    assert (message.content, message.reasoning) == (content, reasoning)


def test_marks_of_thoughts_in_a_users_message_stay():
    (message,) = messages_of([{"role": "user", "content": "<think>what is this?</think> and this"}])
    assert (message.content, message.reasoning) == ("<think>what is this?</think> and this", None)


def test_open_webuis_markup_becomes_thoughts_calls_and_answers():
    text = (
        '<details type="reasoning" done="true" duration="7">\n<summary>Thought</summary>\n&gt; Look &amp; see.\n'
        '</details>\nI look.\n<details type="tool_calls" done="true" id="c" name="sort" '
        'arguments="&quot;{\\&quot;n\\&quot;: 1}&quot;" result="&quot;1 &lt; 2&quot;" files="">\n<summary>x</summary>\n'
        '</details>\n<details type="code_interpreter" done="true" output="3">\n<summary>Analyzed</summary>\n'
        "```python\nprint(3)\n```\n</details>\nIt is <b>1</b>."
    )
    first, one, second, two, last = messages_of([{"role": "assistant", "content": text}])
    assert (first.content, first.reasoning) == ("I look.", "Look & see.")
    assert first.tool_calls == (ToolCall(FunctionCall("sort", '{"n": 1}'), "c"),)
    assert (one.role, one.content, one.tool_call_id, one.name) == ("tool", "1 < 2", "c", "sort")
    assert second.tool_calls[0].function == FunctionCall("code_interpreter", '{"code":"print(3)"}')
    assert (two.content, last.content) == ("3", "It is <b>1</b>.")


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        ('<details type="reasoning" done="false">\n<summary>Thinking</summary>\n> I', [""]),  # cut
        ('<details type="tool_calls" done="false" id="c" name="sort" arguments="{}">\n</details>', [""]),
        ("<details><summary>More</summary>text</details>", ["<details><summary>More</summary>text</details>"]),
        ('```\n<details type="reasoning">x</details>\n```', ['```\n<details type="reasoning">x</details>\n```']),
    ],
)
def test_markup_that_is_cut_or_only_shown(text, contents):
    assert [message.content for message in messages_of([{"role": "assistant", "content": text}])] == contents


def test_what_stands_beside_the_messages_is_kept(tmp_path):
    tools = [{"name": "sort", "description": "Sorts.", "input_schema": {"type": "object"}}]
    beside = {"system": [{"type": "text", "text": "Be brief."}], "tools": tools, "feedback": -1}
    _, (only,) = stored(tmp_path, {"messages": [USER, REPLY], **beside})
    assert next((m.role, m.content) for m in only.messages) == ("system", "Be brief.")
    assert only.ratings[0].reply_index == 2
    assert orjson.loads(only.tools or "") == [
        {
            "type": "function",
            "function": {"name": "sort", "description": "Sorts.", "parameters": {"type": "object"}},
        }
    ]


@pytest.mark.parametrize("tools", [None, [], "", "[]", "no json", 5, ["web"], {"web": True}, [[]]])
def test_tools_without_schemas_are_none_and_lose_nothing(tmp_path, tools):
    _, (only,) = stored(tmp_path, {"messages": [USER, REPLY], "tools": tools, "system": 7})
    assert (only.tools, len(only.messages)) == (None, 2)


def test_an_identity_stays_whatever_earlier_versions_left_out(tmp_path):
    """Calls, a system message beside the list and marks of media were not read: the ids do not depend on them."""
    picture = {"type": "image_url", "image_url": {"url": "data:..."}}
    asked = {"role": "user", "content": [{"type": "text", "text": "Sort: moon eagle"}, picture]}
    rows = [{"messages": [USER, REPLY]}, {"system": "x", "messages": [asked, assistant(tool_calls=[CALL]), REPLY]}]
    (only,) = (c for c in stored(tmp_path, *rows)[1])
    assert [m.role for m in only.messages] == ["system", "user", "assistant", "assistant"]


TOOL = {"role": "tool", "tool_call_id": "k", "content": "moon eagle"}


@pytest.mark.parametrize(
    ("between", "expected", "odd"),
    [
        ([assistant(tool_calls=[CALL]), TOOL], "rows", {"calls": 1}),
        ([assistant(content="I look.", tool_calls=[CALL]), TOOL], "rows", {"calls": 1}),
        (
            [assistant(tool_calls=[CALL, {**CALL, "id": "j"}]), TOOL, {**TOOL, "tool_call_id": "j"}],
            "rows",
            {"calls": 2},
        ),
        ([assistant(tool_calls=[CALL]), TOOL, TOOL], "rows", {"calls": 1, "second_answers": 1}),
        ([TOOL], "rows", {"answers_without_call": 1}),
        (
            [assistant(tool_calls=[CALL])],
            f"dropped.{Reason.UNANSWERED_CALL}",
            {"calls": 1, "calls_without_answer": 1},
        ),
        (
            [
                assistant(tool_calls=[{"function": {"name": "sort", "arguments": "{cut"}}]),
                {**TOOL, "tool_call_id": None},
            ],
            f"dropped.{Reason.BROKEN_TOOL_CALL}",
            {"calls": 1, "broken_calls": 1},
        ),
        (
            [assistant(tool_calls=["?"]), TOOL],
            f"dropped.{Reason.BROKEN_TOOL_CALL}",
            {"calls": 1, "broken_calls": 1},
        ),
    ],
)
def test_a_reply_after_tools_makes_a_pair_or_a_named_drop(tmp_path, between, expected, odd):
    row = {"id": "1", "messages": [USER, *between, REPLY, COMPLAINT], "tools": [{"name": "sort"}]}
    summary, _ = stored(tmp_path, row)
    assert summary.tools == odd
    counts, items = paired(Store(tmp_path / "store"), tmp_path / "prompts.jsonl")
    assert counts.get(expected) == 1
    for item in items:
        assert len(item.prompt) == 1 + len(between)
        assert item.prompt[-1].role == "tool"
        assert item.rejected is not None
        assert item.rejected.content == "moon eagle"
        assert item.tools is not None


def test_a_disliked_call_is_an_item(tmp_path):
    counts, (item,) = pairs_of(tmp_path, {"messages": [USER, assistant(tool_calls=[CALL], feedback=-1)]})
    assert counts == {"rows": 1}
    assert item.rejected is not None
    assert item.rejected.tool_calls == (SORT,)


@pytest.mark.parametrize(
    ("messages", "counts"),
    [
        # the request, a tool's answer, and the reply itself
        ([{**USER, "images": ["aGk="]}, REPLY, COMPLAINT], {"rows": 0, "dropped.needs_image": 1}),
        (
            [USER, assistant(tool_calls=[CALL]), {**TOOL, "content": [{"type": "image"}]}, REPLY, COMPLAINT],
            {"rows": 0, "dropped.needs_image": 1},
        ),
        (
            [USER, {"role": "assistant", "content": [{"type": "image"}]}, COMPLAINT],
            {"rows": 0, "dropped.needs_image": 1},
        ),
        # typed by the user, and in an earlier exchange
        ([{"role": "user", "content": "[image] what is this mark?"}, REPLY, COMPLAINT], {"rows": 1}),
        (
            [{**USER, "images": ["aGk="]}, REPLY, {"role": "user", "content": "And: a b c?"}, REPLY, COMPLAINT],
            {"rows": 1},
        ),
    ],
)
def test_a_pair_that_needs_an_image_is_dropped_by_name(tmp_path, messages, counts):
    assert pairs_of(tmp_path, {"messages": messages})[0] == counts


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "<image>What is it?"}, REPLY], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "What is it?"}, REPLY], "image": "a.png"},
        {
            "conversations": [{"from": "human", "value": "What is it?<image>"}, {"from": "gpt", "value": "x"}],
            "image": "a",
        },
    ],
)
def test_images_of_datasets_leave_their_mark(tmp_path, row):
    summary, (only,) = stored(tmp_path, row)
    assert "[image]" in only.messages[0].content
    assert "<image>" not in only.messages[0].content
    assert (only.has_media(0), only.has_media(1), summary.media) == (True, False, 1)


def test_personal_data_in_arguments_thoughts_and_tools_is_redacted(tmp_path):
    given = '{"to": "ann@example.org", "phone": 14155550123}'
    said = assistant(
        tool_calls=[{"function": {"name": "send", "arguments": given}}], reasoning_content="Ask bob@example.org"
    )
    tools = [{"name": "send", "description": "As eve@example.org"}]
    _, (only,) = stored(
        tmp_path, {"messages": [USER, said, {"role": "tool", "content": "to ann@example.org"}], "tools": tools}
    )
    shown = orjson.dumps(only).decode()
    assert "example.org" not in shown
    arguments = orjson.loads(only.messages[1].tool_calls[0].function.arguments)
    assert arguments["to"] == "<EMAIL_1>"
    assert only.messages[2].content == "to <EMAIL_1>"
    assert only.messages[1].reasoning == "Ask <EMAIL_2>"


DEEP: Any = "x"
for _ in range(1000):
    DEEP = [DEEP]
BIG = "x" * 5_000_000


@pytest.mark.parametrize(
    "value", [None, [], {}, "", 5, True, "text", [None], [5], [[]], [{}], [{"function": 3}], BIG, DEEP]
)
@pytest.mark.parametrize("key", ["tool_calls", "function_call", "reasoning_content", "images", "audio"])
def test_whatever_a_field_holds_the_message_is_read_or_refused_by_name(key, value):
    messages = read_or_reason([USER, {**REPLY, key: value}, TOOL])
    assert messages is Reason.BAD_CONTENT or messages[1].content.startswith("moon eagle")


@pytest.mark.parametrize("value", [None, [], {}, "", 5, True, "text", [None], [{}], BIG, DEEP])
@pytest.mark.parametrize("kind", ["tool_use", "tool_result", "thinking", "image", "text"])
def test_whatever_a_part_holds_the_message_is_read_or_refused_by_name(kind, value):
    names = ("input", "content", "thinking", "source", "text", "name")
    part = {"type": kind, **dict.fromkeys(names, value)}
    messages = read_or_reason([USER, {"role": "assistant", "content": [part, {"type": "text", "text": "end"}]}])
    assert messages is Reason.BAD_CONTENT or messages[-1].content.endswith("end")


CASES = (
    "openai_tools.jsonl", "sharegpt_tools_system.json", "swift_agent_roles.jsonl", "tool_thumb.jsonl",
    "train_toolreply.jsonl", "train_tools.jsonl", "anthropic_raw.jsonl", "reasoning_field.jsonl", "owui_reasoning.json",
    "train_think.jsonl", "messages_response_beside.jsonl",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_complaint_and_thumb_of_a_case_makes_a_pair(tmp_path, test_data, case):
    store = Store(tmp_path / "store")
    summary = ingest([test_data / "cases" / case], store)
    assert (summary.quarantined, summary.filtered) == ({}, 0)
    counts, items = paired(store, tmp_path / "prompts.jsonl")
    assert counts == {"rows": {"messages_response_beside.jsonl": 5}.get(case, 60 if case.startswith("train") else 1)}
    if case not in (
        "anthropic_raw.jsonl",
        "reasoning_field.jsonl",
        "messages_response_beside.jsonl",
        "train_think.jsonl",
    ):
        after_tools = sum(item.prompt[-1].role == "tool" for item in items)
        assert after_tools == {"train_tools.jsonl": 0}.get(case, len(items))
    if case in ("reasoning_field.jsonl", "train_think.jsonl"):
        assert all(item.rejected and item.rejected.reasoning and "think" not in item.rejected.content for item in items)


def test_the_case_with_an_image_makes_no_pair(tmp_path, test_data):
    store = Store(tmp_path / "store")
    assert ingest([test_data / "cases" / "multimodal.jsonl"], store).media == 1
    assert paired(store, tmp_path / "prompts.jsonl")[0] == {"rows": 0, f"dropped.{Reason.NEEDS_IMAGE}": 1}


def test_a_log_whose_messages_say_nothing_is_quarantined_by_name(tmp_path):
    summary, found = stored(tmp_path, {"messages": [assistant(content=[{"type": "redacted_thinking", "data": "x"}])]})
    assert (summary.quarantined, found) == ({Reason.NO_MESSAGES: 1}, [])


def test_labellers_and_near_duplicates_read_a_call_with_its_arguments():
    def chat(arguments: str) -> Conversation:
        called = Message("assistant", "", tool_calls=(ToolCall(FunctionCall("sort", arguments)),))
        messages = (Message("user", "Sort."), called, Message("user", "No, wrong."))
        return Conversation("c", "s", "c", messages, "train")

    (turn,) = reactions(chat('{"words": ["moon"]}'))
    assert turn.turn.reply == '[call sort({"words": ["moon"]})]'
    (window,) = windows(chat('{"words": ["moon"]}'))
    assert "moon" in window.text()
    one, same, other = (
        signature(chat(a)) for a in ('{"words": ["moon"]}', '{"words": ["moon"]}', '{"words": ["sun"]}')
    )
    assert (one == same).all()
    assert (one != other).any()
