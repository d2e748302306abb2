"""Pieces of work for the engines' tests: functions of a module, as worker processes need them."""

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift.engine import Engine, Local
from drift.engine.engine import name_of
from drift.errors import DataError


@dataclass(frozen=True, slots=True)
class Square:
    of: int
    by: int
    """The process that did it."""


def square(number: int) -> Square:
    return Square(number**2, os.getpid())


def slow_square(number: int) -> Square:
    time.sleep(0.3)
    return square(number)


def refuse(number: int) -> Square:
    if number == 2:
        raise DataError("chats.jsonl:2: no messages. Leave the row out.")
    return square(number)


def fault(number: int) -> Square:
    return Square(number // 0, 0)


def die(number: int) -> Square:
    """Kill the process with piece 1, always."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def die_with_a_lock(number: int) -> Square:
    """As a process that is killed while tqdm, in it, holds the lock that it makes for all processes."""
    lock = multiprocessing.RLock()
    with lock:
        return die(number)


def kill_driver(_: int) -> Square:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
    return square(0)


def die_once(marked: tuple[Path, int]) -> Square:
    """Kill the process the first time that each piece is tried."""
    folder, number = marked
    mark = folder / str(number)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def last_is_late(marked: tuple[Path, int]) -> Square:
    """The last of four pieces hangs until a second worker has it too."""
    folder, number = marked
    (folder / f"{number}-{os.getpid()}").touch()
    while number == 3 and len(list(folder.glob("3-*"))) < 2:
        time.sleep(0.1)
    return square(number)


def read(file: Path) -> Square:
    return square(len(file.read_bytes()))


def read_log(file: Path) -> Square:
    """As the readers of logs do."""
    try:
        return read(file)
    except OSError as error:
        raise DataError(f"{file}: cannot read this file: {error.strerror}.") from None


def fill_the_disk(number: int) -> Square:
    raise OSError(errno.ENOSPC, "No space left on device", "/tmp/run")


def gpu_of(number: int) -> str | None:
    """The GPUs that the process of this piece sees. The process dies with the first try of piece 0."""
    marked = Path(os.environ["MARK"])
    if number == 0 and not marked.exists():
        marked.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


class TwoModels(Local):
    """Two workers in this process. The last piece comes first; after `limit` of them, everything stops."""

    workers = 2

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.done: list[str] = []

    def each(self, work: Callable[[Any], Any], pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for number in reversed(range(len(pieces))):
            if len(self.done) == self.limit:
                raise KeyboardInterrupt
            self.done.append(name_of(pieces[number]))
            yield number, work(pieces[number])

    def for_models(self, threads: int | None, gpus: int, only: Sequence[int] = ()) -> AbstractContextManager[Engine]:
        return nullcontext(self)
