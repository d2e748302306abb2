"""Cutting files into rows, also where they are broken."""

from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drift.logs.files import rows as rows_module
from drift.logs.files.rows import LogRow, Place, Reject, json_kind, read_rows, short_form
from drift.records import Reason


def rows_of(tmp_path: Path, content: bytes) -> list[LogRow | Reject]:
    file = tmp_path / "log"
    file.write_bytes(content)
    return list(read_rows(file, lambda done: None))


def values(rows: list[LogRow | Reject]) -> list:
    return [row.value["id"] if isinstance(row, LogRow) else row.reason for row in rows]


BROKEN = Reason.BROKEN_JSON


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (b'[{"id": 1}, {"id": 2}]', [1, 2]),
        (b'\xef\xbb\xbf [\n{"id": 1}\n]\n', [1]),
        (b"[]", []),
        (b'[{"id": 1}, {"id": }, {"id": 3}]', [1, BROKEN, 3]),
        (b'[{"id": 1}, {"id": 2, "x": [{"y": 1}, {"id": 3}]', [1, BROKEN, 3]),
        (b'[{"id": 1}, {"id": 2, "x": "no end}, {"id": 3}, {"id": 4}]', [1, BROKEN, 3, 4]),
        (b'[{"id": 1, "x": {, {"id": 2}]', [BROKEN, 2]),
        (b'[{"id": 1}, {"id": 2}, {"id": 3, "x": "cut', [1, 2, BROKEN]),
        (b'[{"id": 1}, 7, null, "a,b]", {"id": 2}]', [1, *[Reason.NOT_AN_OBJECT] * 3, 2]),
        (b'[{"id": 1} {"id": 2}', [1, 2]),
        (b'[{"id": "]}\\"{[" }, {"id": 2}]', [']}"{[', 2]),
    ],
)
def test_array_elements_go_on_behind_broken_ones(tmp_path, array, expected):
    assert values(rows_of(tmp_path, array)) == expected


def test_lines_go_on_behind_broken_ones(tmp_path):
    rows = rows_of(tmp_path, b'{"id": 1}\n\n{"id": \n[1]\n{"id": 2}')
    assert values(rows) == [1, BROKEN, Reason.NOT_AN_OBJECT, 2]
    assert [row.at for row in rows] == [Place(1), Place(3), Place(4), Place(5)]


def test_array_elements_know_their_line_and_number(tmp_path):
    rows = rows_of(tmp_path, b'[\n  {"id":\n 1},\n  {"id" 2},\n  {"id": 3}\n]')
    assert [row.at for row in rows] == [Place(2, 1), Place(4, 2), Place(5, 3)]


def test_text_that_is_almost_json_is_read(tmp_path):
    rows = rows_of(tmp_path, b'{"id": "half \\ud800 pair"}\n{"id": "byte \xff"}\n{"id": "tab\there"}\n')
    assert values(rows) == ["half \ufffd pair", "byte \xff", "tab\there"]


def test_deep_nesting_is_a_broken_row(tmp_path):
    rows = rows_of(tmp_path, b'{"id": ' + b"[" * 100_000 + b'}\n{"id": 2}\n')
    assert values(rows) == [BROKEN, 2]


@pytest.mark.parametrize("shape", [b"%b\n%b\n%b\n", b"[%b, %b, %b]"])
def test_an_absurd_row_is_too_large(tmp_path, shape):
    large = b'{"id": "' + b"x" * rows_module.MAX_ROW_BYTES + b'"}'
    rows = rows_of(tmp_path, shape % (b'{"id": 1}', large, b'{"id": 3}'))
    assert values(rows) == [1, Reason.TOO_LARGE, 3]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(objects=st.lists(st.fixed_dictionaries({"id": json_values, "x": json_values}), max_size=6), indent=st.booleans())
def test_an_array_is_cut_where_a_parser_would(tmp_path_factory, objects, indent):
    content = orjson.dumps(objects, option=orjson.OPT_INDENT_2 if indent else 0)
    rows = rows_of(tmp_path_factory.mktemp("array"), content)
    assert [row.value for row in rows if isinstance(row, LogRow)] == objects
    assert len(rows) == len(objects)


def test_progress_ends_with_the_size_of_the_file(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"id": 1}\n' * 10)
    done: list[int] = []
    list(read_rows(file, done.append))
    assert done == sorted(done)
    assert done[-1] == 100


@pytest.mark.parametrize(
    ("value", "kind", "quoted"),
    [
        (None, "nothing", "nothing"),
        (True, "true or false", "True"),
        (7, "a number", "7"),
        ("word", "a text", "'word'"),
        ("two words", "a text", "a text of 9 characters"),
        ([1, 2], "a list", "a list of 2 entries"),
        ({"a": 1}, "an object", "an object of 1 entries"),
    ],
)
def test_messages_name_values_in_the_words_of_json(value, kind, quoted):
    assert (json_kind(value), short_form(value)) == (kind, quoted)


CHAT = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n} " + "x" * 100} for n in range(10_000)]
AS_LINE, AS_LINES = orjson.dumps(CHAT), b"[\n" + b",\n".join(map(orjson.dumps, CHAT)) + b"\n]\n"


@pytest.mark.parametrize(
    ("content", "sizes"),
    [(AS_LINE, [10_000]), (AS_LINES, [10_000]), (AS_LINE + b"\n" + orjson.dumps(CHAT[:4]) + b"\n", [10_000, 4])],
    ids=["one line", "many lines", "a line per chat"],
)
def test_a_chat_of_ten_thousand_turns_that_is_nothing_but_its_list_of_messages(tmp_path, content, sizes):
    assert len(content) > rows_module.CHUNK  # more than what is seen of a file before it is cut
    rows = rows_of(tmp_path, content)
    assert [len(row.value["messages"]) for row in rows] == sizes


def test_a_long_table_of_messages_stays_a_table(tmp_path):
    content = orjson.dumps([{**message, "chat": "c"} for message in CHAT])
    assert len(rows_of(tmp_path, content)) == 10_000


def test_what_is_nested_too_deep_is_named(tmp_path):
    deep = b'{"text": "a", "others": [' * 5000 + b"]}" * 5000
    (row, after) = rows_of(tmp_path, deep + b'\n{"id": 2}\n')
    assert (row.reason, row.detail) == (
        Reason.NESTED_TOO_DEEP,
        "nested more than 500 deep elsewhere than in replies to replies",
    )
    assert after.value == {"id": 2}
