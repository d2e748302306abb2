"""Finding log files, and reading them packed, recoded and through a pipe."""

import bz2
import gzip
import io
import sys
from collections import Counter
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drift.errors import DataError
from drift.logs.files.opening import STDIN, Repair
from drift.logs.files.rows import LogRow, Reject, read_rows
from drift.logs.files.sources import LogFile, find_logs
from drift.records import Reason

ROWS = [{"id": number, "text": f"häuser {number}"} for number in range(3)]
LINES = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def parquet(rows: list[dict]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def read(path: Path, content: bytes) -> tuple[list[LogRow | Reject], dict[Repair, int]]:
    path.write_bytes(content)
    repairs = Counter()
    return list(read_rows(path, lambda done: None, repairs)), dict(repairs)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(LINES),
        zstd(LINES),
        gzip.compress(LINES[:40]) + gzip.compress(LINES[40:]),
        zstd(LINES[:40]) + zstd(LINES[40:]),
        gzip.compress(orjson.dumps(ROWS, option=orjson.OPT_INDENT_2)),
        gzip.compress(parquet(ROWS)),
        orjson.dumps({"object": "list", "data": ROWS, "has_more": False}),
        orjson.dumps({"data": ROWS, "meta": {"page": 1}}, option=orjson.OPT_INDENT_2),
        orjson.dumps({"data": ROWS[:1]}) + b"\n" + orjson.dumps({"data": ROWS[1:]}),
        b"\n".join(orjson.dumps({"data": rows}, option=orjson.OPT_INDENT_2) for rows in (ROWS[:1], ROWS[1:])),
        b"\n".join(orjson.dumps(row, option=orjson.OPT_INDENT_2) for row in ROWS),
        orjson.dumps(ROWS[:2]) + b"\n" + orjson.dumps(ROWS[2:]),
    ],
    ids=list("abcdefghijkl"),
)
def test_packed_and_printed_in_every_way_the_rows_are_the_same(tmp_path, content):
    rows, repairs = read(tmp_path / "log", content)
    assert [row.value if isinstance(row, LogRow) else row for row in rows] == ROWS
    assert repairs == {}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_is_recoded_and_counted(tmp_path, encoding):
    rows, repairs = read(tmp_path / "log", LINES.decode().encode(encoding))
    assert [row.value for row in rows if isinstance(row, LogRow)] == ROWS
    assert repairs == {Repair.RECODED_UTF16: 3}


def test_latin1_is_read_as_such_and_damaged_utf8_is_mended(tmp_path):
    latin1 = b'{"text": "na\xefve caf\xe9 \x93quoted\x94"}\n'
    damaged = '{"text": "naïve'.encode() + b"\xff" + b'"}\n'
    rows, repairs = read(tmp_path / "log", latin1 + damaged + b'{"text": "\xef\xbb\xbfplain"}')
    assert [row.value["text"] for row in rows if isinstance(row, LogRow)] == [
        "naïve café “quoted”",
        "naïve\ufffd",
        "\ufeffplain",
    ]
    assert repairs == {Repair.READ_AS_LATIN1: 1, Repair.BYTES_REPLACED: 1}


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_cut_packed_file_gives_what_is_whole_and_names_the_damage(tmp_path, pack):
    lines = [orjson.dumps({"id": number, "noise": str(hash(str(number)))}) for number in range(20_000)]
    packed = pack(b"\n".join(lines))
    rows, _ = read(tmp_path / "log", packed[: len(packed) // 2])
    whole = [row for row in rows if isinstance(row, LogRow)]
    assert [row.value["id"] for row in whole] == list(range(len(whole)))
    assert 5_000 < len(whole) < 15_000
    refused = [row.reason for row in rows if isinstance(row, Reject)]
    assert refused in ([Reason.DAMAGED_STREAM], [Reason.BROKEN_JSON, Reason.DAMAGED_STREAM])


@pytest.mark.parametrize(
    ("content", "says"), [(bz2.compress(LINES), "bzip2"), (b"PK\x03\x04rest", "zip archive")], ids=["bzip2", "zip"]
)
def test_packers_that_are_not_read_are_named(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        read(tmp_path / "log", content)


@pytest.mark.parametrize("content", [LINES, gzip.compress(LINES), parquet(ROWS)], ids=["lines", "gzip", "parquet"])
def test_stdin_is_read_like_a_file(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    rows = list(read_rows(STDIN, lambda done: None))
    assert [row.value for row in rows if isinstance(row, LogRow)] == ROWS


def test_files_are_found_by_folder_and_glob_each_once(tmp_path):
    names = ["a.jsonl", "b.json.gz", "deep/c.parquet", "deep/d.JSONL.zst", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def found(*paths: Path) -> list[str]:
        return [source.name if source.name == "-" else str(Path(source.name).relative_to(tmp_path))
                for source in find_logs(paths).sources]  # fmt: skip

    assert found(tmp_path) == names[:4]
    assert found(tmp_path / "*.json*", tmp_path / "a.jsonl", STDIN) == [*names[:2], "-"]
    assert found(tmp_path / "**" / "*.parquet") == ["deep/c.parquet"]
    with pytest.raises(DataError, match="no file matches this pattern"):
        find_logs([tmp_path / "*.csv"])


def test_folders_behind_links_are_read_and_links_to_nothing_are_named(tmp_path):
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    for folder in (logs / "inner", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_bytes(b"x")
    for name, target in {
        "linked": elsewhere, "again": elsewhere, "inner/twin": logs / "inner", "up": tmp_path, "dead.jsonl": logs / "x",
    }.items():  # fmt: skip
        (logs / name).symlink_to(target)
    (elsewhere / "round").symlink_to(elsewhere)
    found = find_logs([logs])
    assert sorted(source.name for source in found.sources) == [f"{elsewhere}/a.jsonl", f"{logs}/inner/a.jsonl"]
    named = {Path(name).name: why for name, why in found.skipped.items()}
    assert named == {
        "dead.jsonl": "a link to nothing",
        **dict.fromkeys(("twin", "up", "round"), "a link to a folder that holds it"),
    }
    assert find_logs([logs / "**" / "*.jsonl"]).skipped[str(logs / "dead.jsonl")] == "a link to nothing"


def test_a_log_keeps_its_own_name_where_a_link_leads_to_its_folder_too(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):  # whichever comes first in the folder, its link does before the other
        (tmp_path / name / "2024").mkdir(parents=True)
        (tmp_path / name / "2024" / "x.jsonl").write_bytes(b"x")
        (tmp_path / name / "latest").symlink_to(tmp_path / other / "2024")
    names = [str(source.path) for source in find_logs([tmp_path]).sources if isinstance(source, LogFile)]
    assert names == [f"{tmp_path}/a/2024/x.jsonl", f"{tmp_path}/b/2024/x.jsonl"]


def test_what_is_no_log_in_a_folder_is_named_and_what_the_user_names_must_be_one(tmp_path):
    for name in ("a.jsonl", "empty.jsonl", "notes.txt"):
        (tmp_path / name).write_bytes(b"" if name == "empty.jsonl" else b"x")
    found = find_logs([tmp_path, tmp_path / "a.jsonl"])
    assert [(Path(source.name).name, source.is_named) for source in found.sources] == [("a.jsonl", True)]
    assert {Path(name).name: why for name, why in found.skipped.items()} == {
        "notes.txt": "another kind of file",
        "empty.jsonl": "the file is empty",
    }
    assert [source.is_named for source in find_logs([tmp_path / "a*.jsonl"]).sources] == [False]
    named = find_logs([tmp_path, tmp_path / "notes.txt"])
    assert [Path(source.name).name for source in named.sources] == ["a.jsonl", "notes.txt"]
    assert len(named.skipped) == 1
    with pytest.raises(DataError, match=r"empty\.jsonl: the file is empty"):
        find_logs([tmp_path / "empty.jsonl"])


def test_parquet_with_lists_in_lists_nanoseconds_and_impossible_years(tmp_path):
    kind = pa.list_(
        pa.struct({"role": pa.string(), "parts": pa.list_(pa.list_(pa.string())), "at": pa.timestamp("ns")})
    )
    table = pa.table({
        "messages": pa.array([[{"role": "user", "parts": [["a"], []], "at": 1_700_000_000_000_000_001}], []], kind),
        "year": pa.array([0, 2**62 // 10**3], pa.timestamp("ms")),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "log", store_schema=True)
    rows, _ = read(tmp_path / "log", (tmp_path / "log").read_bytes())
    assert isinstance(rows[0], LogRow)
    assert rows[0].value["messages"][0]["parts"] == [["a"], []]
    assert rows[0].value["messages"][0]["at"].isoformat() == "2023-11-14T22:13:20"
    assert isinstance(rows[1], Reject)
    assert rows[1].reason is Reason.BAD_CONTENT


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (b'{"id": 1, "id": 2}', Reason.DUPLICATE_KEYS),
        (b'{"x": [{"role": "user", "role": "assistant"}]}', Reason.DUPLICATE_KEYS),
        (b'{"id": 1, "id": 1}', {"id": 1}),
        (b'{"text": "\\"id\\": 1, \\"id\\": 2", "id": 3}', {"text": '"id": 1, "id": 2', "id": 3}),
        (b'{"a\\\\": 1, "b": 2}', {"a\\": 1, "b": 2}),
    ],
)
def test_a_key_given_twice_is_refused_if_the_values_differ(tmp_path, row, expected):
    ((found,), _) = read(tmp_path / "log", row)
    assert (found.value if isinstance(found, LogRow) else found.reason) == expected
