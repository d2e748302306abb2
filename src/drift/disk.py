"""What run folders and stores ask of the file system: atomic writes, moves that survive a power cut, and one lock."""

import fcntl
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, Self, TypeVar

import orjson

from drift.errors import DriftError
from drift.records import read_jsonl

TEMPORARY = ".drift-tmp"


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file that is there completely or as it was before, whatever happens in between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with temporary.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)
    fsync_path(path.parent)


def remove_temporaries(folder: Path) -> None:
    """Delete what an `atomic_write` that was killed left anywhere in `folder`."""
    for leftover in folder.rglob(f".*{TEMPORARY}"):
        leftover.unlink()


def move_into_place(work: Path, made: set[str], folder: Path, former: Iterable[str], trash: Path) -> None:
    """Replace the entries `former` of `folder` by those in `work` that were `made`; what was there goes to `trash`."""
    for path in (*(path for name in made for path in (work / name, *(work / name).rglob("*"))), work):
        fsync_path(path)
    folder.mkdir(parents=True, exist_ok=True)
    trash.mkdir()
    for name in {*former, *made}:
        old, new = folder / name, work / name
        # os.replace swaps a file for a file in one step; a folder has to be taken away first.
        if old.exists() and (name not in made or old.is_dir() or new.is_dir()):
            os.replace(old, trash / name)
        if name in made:
            os.replace(new, old)
    fsync_path(folder)


def files_under(path: Path) -> list[Path]:
    """Every file of a folder in order of names; of a file, itself; of nothing, nothing."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []


def take_lock(path: Path) -> int:
    """An open, locked file handle; closing it, or dying, frees the lock.

    Raises DriftError naming the process that holds it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for _ in range(5):  # `is_locked` of another process may hold it for a moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
            continue
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        return lock
    owner = os.read(lock, 32).decode().strip()
    os.close(lock)
    raise DriftError(
        f"{path.parent}: process {owner} is working in this run. Wait for it, or name another folder with --out DIR."
    )


def is_locked(path: Path) -> bool:
    """Does a living process hold this lock?"""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def fsync_path(path: Path) -> None:
    """A file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


Row = TypeVar("Row")


class DurableJsonl(Generic[Row]):
    """A JSON Lines file of one kind of record. Opening it cuts off what a kill left of a last line."""

    def __init__(self, path: Path, record: type[Row]) -> None:
        self.path = path
        self._record = record
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        _cut_torn_line(path)

    def rows(self) -> list[Row]:
        """In the order of writing. Raises DataError with file:line for a row that somebody damaged."""
        return list(read_jsonl(self.path, self._record))

    def append(self, row: Row) -> None:
        """On disk when this returns."""
        self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
