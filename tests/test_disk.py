"""What was written survives a kill; what was half written does not count."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drift.disk import (
    FOLDER_LOCK,
    DurableAppender,
    DurableJsonl,
    atomic_write,
    is_locked,
    remove_temporaries,
    take_lock,
)
from drift.errors import DataError
from drift.records import Message

KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from drift import disk
disk.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
disk.atomic_write(Path(sys.argv[1]), b"new")
"""
HOLDS_THE_LOCK = """
import sys, time
from pathlib import Path
from drift.disk import take_lock
take_lock(Path(sys.argv[1]), "--out DIR")
print("locked", flush=True)
time.sleep(60)
"""
QUERIES_SLOWLY = """
import sys
from drift.disk import open_tables
with open_tables("200MB", sys.argv[1]) as tables:
    tables.sql("SELECT sum(hash(range)) FROM range(400000000)").fetchall()
"""


def test_a_write_that_is_killed_leaves_the_old_content(tmp_path: Path):
    file = tmp_path / "manifest.json"
    atomic_write(file, b"old")
    done = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_RENAME, str(file)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_lock_ends_with_its_process(tmp_path: Path, is_folder: bool):
    path = tmp_path if is_folder else tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, str(path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "locked\n"
        with pytest.raises(DataError, match=f"^{tmp_path}: process {owner.pid} is writing here.*: --store DIR"):
            take_lock(path, "--store DIR")
        assert is_folder or is_locked(path)
        owner.kill()
    os.close(take_lock(path, "--store DIR"))
    assert is_folder or not is_locked(path)


def as_on_nfs(handle: int, operation: int) -> None:
    """NFS makes a lock of a range of bytes: for writing, of files that are open for writing alone."""
    if operation & fcntl.LOCK_EX and fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_lock_is_of_a_file_that_is_open_for_writing(tmp_path: Path, monkeypatch, is_folder: bool):
    monkeypatch.setattr("drift.disk.fcntl.flock", as_on_nfs)
    os.close(take_lock(tmp_path if is_folder else tmp_path / "lock", "--store DIR"))
    (lock,) = tmp_path.iterdir()
    assert lock.read_text() == f"{os.getpid()} {socket.gethostname()}\n"


def test_without_locks_the_file_system_is_named(tmp_path: Path, monkeypatch):
    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("drift.disk.fcntl.flock", refuse)
    with pytest.raises(DataError, match=f"^{tmp_path}: this file system has no locks .No locks available"):
        take_lock(tmp_path, "--store DIR")


def test_the_lock_of_a_file_that_was_deleted_meanwhile_is_none(tmp_path: Path, monkeypatch):
    """Two commands could hold it: one of the deleted file, one of the new one of this name."""
    take, deleted = fcntl.flock, []

    def delete_first(handle: int, operation: int) -> None:
        take(handle, operation)
        if not deleted:
            deleted.append((tmp_path / FOLDER_LOCK).unlink())

    monkeypatch.setattr("drift.disk.fcntl.flock", delete_first)
    handle = take_lock(tmp_path, "--store DIR")
    assert os.path.samestat(os.fstat(handle), (tmp_path / FOLDER_LOCK).stat())
    os.close(handle)


def test_an_owner_on_another_host_is_named(tmp_path: Path):
    lock = tmp_path / FOLDER_LOCK
    lock.write_text("4711 node-17\n")
    with lock.open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="process 4711 is writing here on node-17"):
            take_lock(tmp_path, "--store DIR")


def test_a_file_cut_at_any_byte_keeps_its_complete_rows(tmp_path: Path):
    path, rows = tmp_path / "deep" / "rows.jsonl", [Message("user", f"wörd {number}\n") for number in range(3)]
    with DurableJsonl(path, Message) as file:
        for row in rows:
            file.append(row)
    content = path.read_bytes()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        with DurableJsonl(path, Message) as file:
            complete = rows[: content[:size].count(b"\n")]
            assert file.rows() == complete
            file.append(rows[0])
            assert file.rows() == [*complete, rows[0]]


def test_an_append_says_whether_it_is_on_the_disk(tmp_path: Path, monkeypatch):
    synced: list[float] = []
    monkeypatch.setattr("drift.disk.os.fsync", lambda _: synced.append(time.monotonic()))
    now, later = DurableAppender(tmp_path / "now"), DurableAppender(tmp_path / "later", sync_seconds=60)
    synced.clear()
    assert now.append(b"a")
    assert len(synced) == 1
    assert not later.append(b"a")
    assert len(synced) == 1
    later.close()
    assert len(synced) == 2
    now.close()
    assert (tmp_path / "now").read_bytes() == (tmp_path / "later").read_bytes() == b"a"


def test_a_slow_query_of_a_process_without_a_script_prints_nothing(tmp_path: Path):
    """DuckDB takes it (a worker too) for an interactive session, and shows a progress bar there after two seconds."""
    done = subprocess.run([sys.executable, "-c", QUERIES_SLOWLY, str(tmp_path)], capture_output=True, check=True)
    assert done.stdout + done.stderr == b""
