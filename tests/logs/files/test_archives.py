"""Zip archives, in which chat applications pack their exports: every log in them is read, other files are named."""

import gzip
import tarfile
import zipfile
from pathlib import Path

import orjson
import pytest

from drift.errors import DataError
from drift.logs.files.sources import find_logs
from drift.logs.ingest import ingest
from drift.store import Store

ROW = {"id": "a", "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "5"}]}


def archive(path: Path, **members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return path


def test_the_export_of_an_application_is_read_as_it_is(tmp_path):
    nodes = {
        "q": {"id": "q", "parent": None, "children": ["a"], "message": message("user", "2+2?")},
        "a": {"id": "a", "parent": "q", "children": [], "message": message("assistant", "5")},
    }
    chats = [{"conversation_id": "c", "create_time": 1716212300.0, "current_node": "a", "mapping": nodes}]
    thumbs = [{"id": "a", "conversation_id": "c", "rating": "thumbs_down", "content": "{}"}]
    file = archive(
        tmp_path / "export.zip",
        conversations_dot_json=orjson.dumps(chats, option=orjson.OPT_INDENT_2),
        message_feedback_dot_json=orjson.dumps(thumbs),
        user_dot_json=b'{"id": "user-1", "email": "x"}',
        chat_dot_html=b"<html>",
    )
    store = Store(tmp_path / "store")
    summary = ingest([file], store)
    assert (summary.accepted, summary.formats) == (1, {"chatgpt": 2})
    assert [rating.value for rating in next(iter(store.conversations())).ratings] == [-1.0]
    assert {Path(name).name for name in summary.skipped} == {"user.json", "chat.html"}


def message(role, text) -> dict:
    return {"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}, "recipient": "all"}


def test_archives_in_a_folder_and_folders_in_an_archive(tmp_path):
    (tmp_path / "logs").mkdir()
    archive(tmp_path / "logs" / "one.zip", sub__log_dot_jsonl=orjson.dumps(ROW) + b"\n", empty_dot_jsonl=b"")
    (tmp_path / "logs" / "two.zip").write_bytes(b"PK\x03\x04 damaged")
    found = find_logs([tmp_path / "logs"])
    assert [Path(source.name).name for source in found.sources] == ["log.jsonl"]
    assert sorted(Path(name).name for name in found.skipped) == ["empty.jsonl", "two.zip"]
    assert ingest([tmp_path / "logs"], Store(tmp_path / "store")).accepted == 1


def test_a_damaged_member_is_read_up_to_the_damage(tmp_path):
    rows = b"".join(orjson.dumps({**ROW, "id": str(number)}) + b"\n" for number in range(2000))
    file = archive(tmp_path / "log.zip", log_dot_jsonl=rows)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    summary = ingest([file], Store(tmp_path / "store"))
    assert 0 < summary.accepted < 2000
    assert summary.quarantined["damaged_stream"] == 1


@pytest.mark.parametrize("content", [b"PK\x03\x04 damaged", b"no archive at all"])
def test_a_damaged_archive_that_was_named_stops_the_command(tmp_path, content):
    (tmp_path / "log.zip").write_bytes(content)
    with pytest.raises(DataError, match="a damaged zip archive"):
        find_logs([tmp_path / "log.zip"])


def test_an_archive_without_logs_that_was_named_stops_the_command(tmp_path):
    with pytest.raises(DataError, match="no log in this zip archive"):
        find_logs([archive(tmp_path / "log.zip", picture_dot_png=b"x", table_dot_parquet=b"PAR1")])


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_is_named_also_a_packed_one(tmp_path, mode):
    """Its members would be read as lines, the first of each with the header of the archive before it."""
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps(ROW) + b"\n")
    file = tmp_path / ("logs.jsonl.gz" if ":" in mode else "logs.jsonl")
    with tarfile.open(file, mode) as out:
        out.add(tmp_path / "a.jsonl", "a.jsonl")
        out.add(tmp_path / "a.jsonl", "b.jsonl")
    with pytest.raises(DataError, match=rf"a tar archive. Unpack it: tar -xf .*{file.name}"):
        ingest([file], Store(tmp_path / "store"))


@pytest.mark.parametrize(("inner", "what"), [(b"BZh91AY", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK\x03\x04", "zip")])
def test_a_packed_file_inside_of_a_packed_one_is_named(tmp_path, inner, what):
    file = tmp_path / "log.jsonl.gz"
    file.write_bytes(gzip.compress(inner))
    with pytest.raises(DataError, match=f"{what}.*Unpack it"):
        ingest([file], Store(tmp_path / "store"))
