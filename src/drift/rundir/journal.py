"""A list of finished pieces of a stage's work, durable one by one: append-only shards that survive a power cut.

Each command that works on the stage writes a shard of its own, a line for each piece with a checksum. What a line
says is there completely or not at all: a shard that breaks off in the middle of a line, or holds what the disk never
wrote, is cut back to its last whole line, and what was behind it is done again.
"""

import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from drift.disk import atomic_write, fsync_path
from drift.progress import report_note

SYNC_SECONDS = 1.0
"""A piece is given to the disk at most this long after it was appended."""

PLAN = "plan.json"


class Journal:
    """Made by `open`. `done`: the pieces that earlier commands have finished, by number."""

    def __init__(self, done: dict[int, Any], shard: BinaryIO):
        self.done = done
        self._shard = shard
        self._synced_at = time.monotonic()
        self._later: threading.Timer | None = None
        self._trouble: OSError | None = None

    @classmethod
    @contextmanager
    def open(cls, folder: Path, plan: object) -> Iterator["Journal"]:
        """Take up the journal in `folder`, or begin it. `plan`: what the pieces are; another one begins anew."""
        _keep_plan(folder, orjson.dumps(plan))
        shards = sorted(folder.glob("shard-*.jsonl"))
        done = {piece: content for shard in shards for piece, content in _read(shard)}
        if done:
            report_note(f"taken up: {len(done)} pieces of work are there from an earlier command")
        path = folder / f"shard-{len(shards) + 1:04}.jsonl"
        with path.open("xb") as shard:
            fsync_path(folder)
            journal = cls(done, shard)
            try:
                yield journal
            finally:
                journal._close()

    def append(self, piece: int, content: object) -> bool:
        """Write a piece down; returns whether it, and all before it, are surely on the disk now."""
        body = orjson.dumps(content)
        self._shard.write(b'{"piece":%d,"crc32":%d,"content":%b}\n' % (piece, zlib.crc32(body), body))
        self._shard.flush()
        if self._trouble is not None:
            raise self._trouble
        if time.monotonic() - self._synced_at < SYNC_SECONDS:
            self._sync_later()
            return False
        self._sync()
        return True

    def _sync_later(self) -> None:
        """The next piece may take minutes; this one does not wait for it."""
        if self._later is None or not self._later.is_alive():
            self._later = threading.Timer(SYNC_SECONDS, self._sync_by_itself)
            self._later.daemon = True
            self._later.start()

    def _sync_by_itself(self) -> None:
        try:
            self._sync()
        except OSError as error:  # told with the next piece, or at the end
            self._trouble = error

    def _close(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later.join()
        if self._trouble is not None:
            raise self._trouble
        self._sync()

    def _sync(self) -> None:
        self._shard.flush()
        os.fsync(self._shard.fileno())
        self._synced_at = time.monotonic()


def _keep_plan(folder: Path, plan: bytes) -> None:
    path = folder / PLAN
    if path.exists() and path.read_bytes() == plan:
        return
    if path.exists():
        report_note("the work was to be cut into other pieces than now: it begins anew")
    shutil.rmtree(folder)
    folder.mkdir()
    atomic_write(path, plan)


def _read(shard: Path) -> Iterator[tuple[int, Any]]:
    """The pieces of a shard up to the first line that is not whole; the rest is cut off."""
    good = 0
    with shard.open("rb") as lines:
        for line in lines:
            found = _parse(line)
            if found is None:
                break
            yield found
            good += len(line)
    lost = shard.stat().st_size - good
    if lost:
        os.truncate(shard, good)
        report_note(f"repaired: {shard.name} broke off in the middle of a piece ({lost} bytes), which is done again")


def _parse(line: bytes) -> tuple[int, Any] | None:
    try:
        row = orjson.loads(line)
        whole = line.endswith(b"\n") and zlib.crc32(orjson.dumps(row["content"])) == row["crc32"]
        return (row["piece"], row["content"]) if whole else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


_SUFFIX = ".partial"


def partial_work(out: Path) -> Path:
    """The folder, made if need be, in which the stage that makes `out` may leave what it would not do twice."""
    folder = out.with_name(f".{out.name}{_SUFFIX}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def outputs_in(work: Path) -> set[str]:
    """The entries of a stage's work folder that are no partial work."""
    return {name for name in os.listdir(work) if not name.endswith(_SUFFIX)}


def forget_outputs(work: Path) -> None:
    """Half-made outputs are worth nothing; a work folder that holds nothing else goes with them."""
    for name in outputs_in(work):
        path = work / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not any(work.iterdir()):
        work.rmdir()
