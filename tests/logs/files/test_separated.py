"""CSV and TSV: every cell as it is, a broken row is one row, and a name that appears twice is never guessed."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

from drift.errors import DataError
from drift.logs.files import rows as rows_module
from drift.logs.files.opening import Repair
from drift.logs.files.rows import LogRow, read_rows
from drift.records import Reason


def read(path: Path, content: bytes) -> tuple[list, dict]:
    """Rows as (line, value), refused ones as (line, reason); and the repairs."""
    path.write_bytes(content)
    repairs: Counter[Repair] = Counter()
    found = read_rows(path, lambda done: None, repairs)
    return [(row.at.line, row.value if isinstance(row, LogRow) else row.reason) for row in found], dict(repairs)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n", [(2, {"a": "1", "b": "2"})]),
        (b"a;b\n1,5;2\n", [(2, {"a": "1,5", "b": "2"})]),
        (b"a\tb\n1, x\t2\n", [(2, {"a": "1, x", "b": "2"})]),
        (b"a|b\n1|2\n", [(2, {"a": "1", "b": "2"})]),
        (b"sep=;\r\na;b\r\n1,5;2\r\n", [(3, {"a": "1,5", "b": "2"})]),
        (b'a, b\n"1", "x, y"\n', [(2, {"a": "1", "b": "x, y"})]),
        (b'\xef\xbb\xbf"a","b"\n1,2\n', [(2, {"a": "1", "b": "2"})]),
        (b'a,b\n1,"x\n""y"", z"\n3,4\n', [(2, {"a": "1", "b": 'x\n"y", z'}), (4, {"a": "3", "b": "4"})]),
        (b'a,b\r\n1,"x\r\ny"\r\n', [(2, {"a": "1", "b": "x\r\ny"})]),
        (b'a,b\n1,"say \\"hi\\", ok"\n2,x\n', [(2, {"a": "1", "b": 'say "hi", ok'}), (3, {"a": "2", "b": "x"})]),
        (b'a,b\n1,a 5" screen\n', [(2, {"a": "1", "b": 'a 5" screen'})]),
        (b'a,b\n1,\n,"2"\n', [(2, {"a": "1", "b": None}), (3, {"a": None, "b": "2"})]),
        (b"a,b\n\n,\n1,2\n", [(4, {"a": "1", "b": "2"})]),  # an empty row is no row
        (b"a,a,\n1,2,3\n", [(2, {"a (1)": "1", "a (2)": "2", "column 3": "3"})]),
        (b"a,b\n1,C:\\new\\x\n", [(2, {"a": "1", "b": "C:\\new\\x"})]),
        (b"a\n1\n", [(2, {"a": "1"})]),
        (b"a,b\n", []),
        (b"a,b\n1,x\x00y\n", [(2, {"a": "1", "b": "x\x00y"})]),
    ],
)
def test_cells_are_read_as_they_are(tmp_path, content, expected):
    assert read(tmp_path / "log.csv", content) == (expected, {})
    assert read(tmp_path / "log.CSV.gz", gzip.compress(content)) == (expected, {})


def test_a_file_without_the_name_is_a_table_if_all_its_first_rows_agree(tmp_path):
    assert read(tmp_path / "log", b"a,b\n1,2\n") == ([(2, {"a": "1", "b": "2"})], {})
    for content in (b"just, text\nand more\n", b"a,b\n1,2\n3\n", b"text\nmore\n", b"a,a\n1,2\n", b"a,b\n"):
        found, _ = read(tmp_path / "log", content)
        assert {value for _, value in found} <= {Reason.BROKEN_JSON, Reason.NOT_AN_OBJECT}, content
    found, _ = read(tmp_path / "log.jsonl", b"a,b\n1,2\n")
    assert [value for _, value in found] == [Reason.BROKEN_JSON] * 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'a,b\n1,"open\n2,x\n3,y\n', [(2, Reason.BROKEN_CSV), (3, {"a": "2", "b": "x"}), (4, {"a": "3", "b": "y"})]),
        (b'a,b\n1,"x"y\n2,x\n', [(2, Reason.BROKEN_CSV), (3, {"a": "2", "b": "x"})]),
        (b"a,b\n1\n1,2,3\n1,2,\n", [(2, Reason.BROKEN_CSV), (3, Reason.BROKEN_CSV), (4, {"a": "1", "b": "2"})]),
    ],
)
def test_a_broken_row_is_one_row(tmp_path, content, expected):
    assert read(tmp_path / "log.csv", content)[0] == expected


def test_a_quote_that_is_never_closed_costs_its_row_not_the_rest_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("drift.logs.files.separated.MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(rows_module, "MAX_ROW_BYTES", 1000)
    good = b"".join(b"%d,text\n" % number for number in range(500))
    found, _ = read(tmp_path / "log.csv", b'a,b\n1,"open\n' + good)
    assert found[0] == (2, Reason.TOO_LARGE)
    assert found[1:] == [(number + 3, {"a": str(number), "b": "text"}) for number in range(500)]
    found, _ = read(tmp_path / "log.csv", b"a,b\n1," + b"x" * 2000 + b"\n2,y\n")
    assert found == [(2, Reason.TOO_LARGE), (3, {"a": "2", "b": "y"})]


def test_other_encodings_are_recoded_and_counted(tmp_path):
    assert read(tmp_path / "log.csv", b"a,b\n1,caf\xe9\n2,x\n") == (
        [(2, {"a": "1", "b": "café"}), (3, {"a": "2", "b": "x"})],
        {Repair.READ_AS_LATIN1: 1},
    )
    assert read(tmp_path / "log.tsv", "a\tb\n1\tcafé\n".encode("utf-16")) == (
        [(2, {"a": "1", "b": "café"})],
        {Repair.RECODED_UTF16: 1},
    )
    assert read(tmp_path / "log.csv", b"a,b\n1,\xc3\xa9\xff\n") == (
        [(2, {"a": "1", "b": "é\ufffd"})],
        {Repair.BYTES_REPLACED: 1},
    )


def test_a_cell_of_five_megabytes_is_a_cell(tmp_path):
    found, _ = read(tmp_path / "log.csv", b'a,b\n1,"' + b"x\n" * 2_500_000 + b'"\n2,y\n')
    assert [line for line, _ in found] == [2, 2_500_003]
    assert len(found[0][1]["b"]) == 5_000_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("log.csv", b"a,b\r1,2\r", "carriage return"),
        ("log.xlsx", b"PK\x03\x04rest", "Save the sheet as CSV"),
        ("log.db", b"SQLite format 3\0rest", "Name its table: sqlite:///"),
    ],
)
def test_what_is_no_csv_says_how_to_make_it_one(tmp_path, name, content, says):
    with pytest.raises(DataError, match=says):
        read(tmp_path / name, content)
