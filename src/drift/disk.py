"""Files that survive a kill or a power cut: atomic replacement, durable appends, and the lock of a folder.

Stores and run folders follow the same rules, and this file is where these rules stand.
"""

import fcntl
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import orjson

from drift.errors import DataError
from drift.records import read_jsonl

if TYPE_CHECKING:
    import duckdb

TEMPORARY = ".drift-tmp"
FOLDER_LOCK = ".lock"
_LOCK_TRIES, _LOCK_PAUSE_SECONDS = 5, 0.05


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the new content or the old one, never a part."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def make_folder(path: Path, what: str, option: str = "--out DIR") -> None:
    """Make the folder that an option names. Raises DataError if a file is there, or if it cannot be made."""
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: is a file, but {what} needs a folder. Choose another with {option}.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be the folder of {what}: {error.strerror}. Choose another with {option}."
        ) from None


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a name to write a file under; at the end of the block it becomes `path` in one step.

    Two processes, also of two hosts, may make the same file: each writes its own, and the last one stays.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
    try:
        yield temporary
        move_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def move_file(source: Path, target: Path) -> None:
    """Replace `target` by the finished file `source` in one step that survives a power cut."""
    fsync_path(source)  # first the content, then the name: never a name without its content
    os.replace(source, target)
    fsync_path(target.parent)


def remove_temporaries(folder: Path) -> None:
    """Delete the temporary files that a killed `atomic_write` left anywhere in `folder`."""
    for leftover in folder.rglob(f".*{TEMPORARY}"):
        leftover.unlink()


def move_into_place(work: Path, outputs: set[str], folder: Path, former: Iterable[str], trash: Path) -> None:
    """Replace the entries `former` of `folder` by the `outputs` in `work`; the replaced entries go to `trash`."""
    for path in (*(path for name in outputs for path in (work / name, *(work / name).rglob("*"))), work):
        fsync_path(path)
    folder.mkdir(parents=True, exist_ok=True)
    trash.mkdir()
    for name in {*former, *outputs}:
        old, new = folder / name, work / name
        # os.replace swaps a file for a file in one step; a folder has to be taken away first.
        if old.exists() and (name not in outputs or old.is_dir() or new.is_dir()):
            os.replace(old, trash / name)
        if name in outputs:
            os.replace(new, old)
    fsync_path(folder)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Copy a file or a folder. Weights are links, as nothing changes them in their place."""
    if Path(source).is_dir():
        shutil.copytree(source, target, copy_function=link_or_copy)
        return
    if Path(source).suffix == ".safetensors":
        with suppress(OSError):  # a file system without links
            os.link(source, target)
            return
    shutil.copy2(source, target)


def open_tables(memory_limit: str, spill: str) -> "duckdb.DuckDBPyConnection":
    """A DuckDB connection that puts what exceeds its memory into the folder `spill`.

    One thread: every further thread holds row groups of its own. No progress bar: DuckDB takes a worker process for an
    interactive session and would print one to stdout, into the JSON of a command.
    """
    import duckdb

    connection = duckdb.connect(config={"memory_limit": memory_limit, "threads": 1, "temp_directory": spill})
    connection.execute("SET enable_progress_bar = false")
    return connection


def files_under(path: Path) -> list[Path]:
    """All files below a folder, sorted by name; a file gives itself, a missing path nothing."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []


def fsync_path(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_lock(path: Path, option: str) -> int:
    """Lock a lock file, or a folder by the file FOLDER_LOCK in it; the file then holds this process's id and host.

    Returns the open handle: closing it, or the end of the process, frees the lock. `option`: how the user names another
    folder. Raises DataError if another process holds the lock, or if the file system has no locks.
    """
    file = path / FOLDER_LOCK if path.is_dir() else path
    owner, where = "another command", ""
    for _ in range(_LOCK_TRIES):  # `is_locked` of another process may hold it for a moment
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)  # NFS locks only what is open for writing, so no folder
        if _is_free(handle, file):
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()} {socket.gethostname()}\n".encode())
            return handle
        pid, _, host = os.read(handle, 300).decode(errors="replace").strip().partition(" ")
        owner = f"process {pid}" if pid else owner
        where = f" on {host}" if host and host != socket.gethostname() else ""
        os.close(handle)
        time.sleep(_LOCK_PAUSE_SECONDS)
    raise DataError(
        f"{file.parent}: {owner} is writing here{where}. Wait until it has finished, or name another folder: {option}."
    )


def _is_free(handle: int, file: Path) -> bool:
    """Take the lock of an open file if nobody has it. Raises DataError if the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        os.close(handle)
        raise DataError(
            f"{file.parent}: this file system has no locks ({error.strerror}). Mount it with them (NFS: without the "
            "option nolock), or name a folder on another one."
        ) from None
    try:  # its last owner may have deleted the file since it was opened: then others lock another one of this name
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """True if a living process holds this lock file."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


class DurableAppender:
    """Appends to one file. An append is on the disk at most `sync_seconds` later; with 0, before `append` returns."""

    def __init__(self, path: Path, sync_seconds: float = 0.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        fsync_path(path.parent)
        self._sync_seconds = sync_seconds
        self._synced_at = time.monotonic()
        self._timer: Timer | None = None
        self._timer_error: OSError | None = None

    def append(self, content: bytes) -> bool:
        """Write at the end of the file; True if this and everything before it is on the disk now."""
        self._file.write(content)
        self._file.flush()
        if self._timer_error is not None:
            raise self._timer_error
        if time.monotonic() - self._synced_at < self._sync_seconds:
            self._start_timer()
            return False
        self._sync()
        return True

    def close(self) -> None:
        """Flush to the disk and close. Raises the OSError of a sync that failed in the background."""
        try:
            if self._timer is not None:
                self._timer.cancel()
                self._timer.join()
            if self._timer_error is not None:
                raise self._timer_error
            self._sync()
        finally:
            self._file.close()

    def _start_timer(self) -> None:
        """The next append may be minutes away; this one must not wait for it."""
        if self._timer is None or not self._timer.is_alive():
            self._timer = Timer(self._sync_seconds, self._sync_from_timer)
            self._timer.daemon = True
            self._timer.start()

    def _sync_from_timer(self) -> None:
        try:
            self._sync()
        except OSError as error:  # raised by the next append, or by close
            self._timer_error = error

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()


Row = TypeVar("Row")


class DurableJsonl(Generic[Row]):
    """A JSON Lines file of one kind of record. Opening it cuts off a last line that a kill left incomplete."""

    def __init__(self, path: Path, record: type[Row]) -> None:
        self.path = path
        self._record = record
        self._out = DurableAppender(path)
        complete_bytes = path.read_bytes().rfind(b"\n") + 1
        if complete_bytes < path.stat().st_size:
            os.truncate(path, complete_bytes)

    def rows(self) -> list[Row]:
        """All rows in the order of writing. Raises DataError with file:line for a damaged row."""
        return list(read_jsonl(self.path, self._record))

    def append(self, row: Row) -> None:
        """Write a row; it is on the disk when this returns."""
        self._out.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()
