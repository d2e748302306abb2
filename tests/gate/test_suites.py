"""Suites of the user: every way to check, and every line that cannot be used."""

import json
from pathlib import Path

import pytest

from drift.errors import DataError
from drift.gate.suites import read_suite
from drift.records import Completion


def suite(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def answer(text: str) -> Completion:
    return Completion("p", 0, 0, False, text, "stop", 0, "policy", "test")


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        ({"number": 42}, "It is 42.", "It is 43."),
        ({"exact": "Yes, sir"}, " yes,  SIR ", "Yes, sir!"),
        ({"contains": "Lima"}, "The capital is lima.", "The capital is Quito."),
        ({"contains": ["Lima", "Peru"]}, "Lima, Peru", "Lima"),
        ({"regex": "^\\d{4}$"}, "2024", "In 2024"),
        ({"json": {"a": [1, None]}}, '{"a": [1, null]}', "a: 1"),
        ({"json": None}, "null", "none"),
    ],
)
def test_ways_to_check(tmp_path, check, right, wrong):
    (item,) = read_suite(suite(tmp_path / "mine.jsonl", {"id": 7, "prompt": "What?"} | {"id": "7"} | check))
    assert item.problems(answer(right)) == ()
    assert len(item.problems(answer(wrong))) == 1
    assert item.request.item_id == "mine/7/1"


def test_a_row_may_be_a_conversation(tmp_path):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    (item,) = read_suite(suite(tmp_path / "mine.jsonl", {"messages": messages, "number": 4}))
    assert [(message.role, message.content) for message in item.request.messages] == [
        ("system", "Be brief."),
        ("user", "2 + 2?"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, "exactly one of number, exact, contains, regex, json"),
        ({"prompt": "a", "number": 1, "exact": "1"}, "exactly one of"),
        ({"prompt": "a", "contains": []}, "the check is empty"),
        ({"prompt": "a", "exact": None}, "the check is empty"),
        ({"prompt": "a", "number": float("nan")}, "number nan: no answer is equal to it"),
        ({"prompt": "a", "json": {"x": [float("nan")]}}, "NaN is no JSON"),
        ({"messages": [{"role": "assistant", "content": "a"}], "number": 1}, "the last message is the user's"),
        ({"number": 1}, "give either prompt or messages"),
        (
            {"prompt": "a", "messages": [{"role": "user", "content": "b"}], "number": 1},
            "give either prompt or messages",
        ),
        ({"messages": [{"role": "robot", "content": "b"}], "number": 1}, "role"),
        ({"prompt": "a", "regex": "("}, "regex"),
        ({"prompt": "a", "number": "many"}, "number"),
        ("{broken", "invalid JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"mine\.jsonl:2: .*{message}"):
        read_suite(suite(tmp_path / "mine.jsonl", {"prompt": "a", "number": 1}, row))


def test_an_empty_suite_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no rows"):
        read_suite(suite(tmp_path / "mine.jsonl", ""))


def test_an_item_that_repeats_another_one_is_named(tmp_path):
    """Two equal items would count as two observations."""
    rows = [{"prompt": "2 + 2?", "number": 4}, {"prompt": "2 + 3?", "number": 5}, {"prompt": "2 + 2?", "exact": "4"}]
    with pytest.raises(DataError, match=r"mine.jsonl: item 3 asks the same as item 1"):
        read_suite(suite(tmp_path / "mine.jsonl", *rows))
