"""The finished batches of a stage that was interrupted, so that the same command resumes behind them.

A stage keeps them in its partial-work folder, beside its unfinished output. Each command that works on the stage writes
a shard of its own: append-only, one line per batch with a checksum. A shard that breaks off inside a line, or holds
bytes that the disk never wrote, is cut back to its last complete line, and the batches behind it are done again.
"""

import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from drift.disk import DurableAppender, atomic_write
from drift.progress import report_note

SYNC_SECONDS = 1.0
"""A batch is on the disk at most this long after it was appended."""

PLAN = "plan.json"
_SUFFIX = ".partial"


class Journal:
    """Created by `open`. `done`: the content of each batch that earlier commands finished, by number."""

    def __init__(self, done: dict[int, Any], shard: DurableAppender):
        self.done = done
        self._shard = shard

    @classmethod
    @contextmanager
    def open(cls, folder: Path, plan: object) -> Iterator["Journal"]:
        """Resume the journal in `folder`, or start one. `plan` says what the batches are; another plan starts over."""
        _keep_plan(folder, orjson.dumps(plan))
        shards = sorted(folder.glob("shard-*.jsonl"))
        done = {number: content for shard in shards for number, content in _read_and_repair(shard)}
        if done:
            report_note(f"Resuming: {len(done)} batches already done")
        path = folder / f"shard-{len(shards) + 1:04}.jsonl"
        path.touch(exist_ok=False)  # never append to a shard that another command wrote
        shard = DurableAppender(path, SYNC_SECONDS)
        try:
            yield cls(done, shard)
        finally:
            shard.close()

    def append(self, number: int, content: object) -> bool:
        """Write a finished batch down; True if it and all before it are on the disk now."""
        body = orjson.dumps(content)
        return self._shard.append(b'{"piece":%d,"crc32":%d,"content":%b}\n' % (number, zlib.crc32(body), body))


def _keep_plan(folder: Path, plan: bytes) -> None:
    path = folder / PLAN
    if path.exists() and path.read_bytes() == plan:
        return
    if path.exists():
        report_note("Starting over: the work is now divided into other batches than before")
    shutil.rmtree(folder)
    folder.mkdir()
    atomic_write(path, plan)


def _read_and_repair(shard: Path) -> Iterator[tuple[int, Any]]:
    """Yield the batches of a shard up to the first damaged line; cut off the rest."""
    good_bytes = 0
    with shard.open("rb") as lines:
        for line in lines:
            batch = _parse(line)
            if batch is None:
                break
            yield batch
            good_bytes += len(line)
    lost_bytes = shard.stat().st_size - good_bytes
    if lost_bytes:
        os.truncate(shard, good_bytes)
        report_note(f"Repaired: the last {lost_bytes} bytes of {shard.name} were incomplete; that work is done again")


def _parse(line: bytes) -> tuple[int, Any] | None:
    """The number and the content of a batch; None for a line that is cut or damaged."""
    try:
        row = orjson.loads(line)
        complete = line.endswith(b"\n") and zlib.crc32(orjson.dumps(row["content"])) == row["crc32"]
        return (row["piece"], row["content"]) if complete else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def partial_work(out: Path) -> Path:
    """The folder, created if missing, for what the stage that writes `out` must not do twice."""
    folder = out.with_name(f".{out.name}{_SUFFIX}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def outputs_in(work: Path) -> set[str]:
    """The entries of a stage's work folder that are outputs, not partial work."""
    return {name for name in os.listdir(work) if not name.endswith(_SUFFIX)}


def forget_outputs(work: Path) -> None:
    """Delete unfinished outputs, and the work folder too if no partial work is left in it."""
    for name in outputs_in(work):
        path = work / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not any(work.iterdir()):
        work.rmdir()
