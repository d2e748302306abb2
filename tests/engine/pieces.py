"""Pieces of work for the engines' tests: functions of a module, as worker processes need them."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

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


def die_once(marked: tuple[Path, int]) -> Square:
    """Kill the process the first time that each piece is tried."""
    folder, number = marked
    mark = folder / str(number)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


def gpu_of(number: int) -> str | None:
    """The GPUs that the process of this piece sees. The process dies with the first try of piece 0."""
    marked = Path(os.environ["MARK"])
    if number == 0 and not marked.exists():
        marked.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    return os.environ.get("CUDA_VISIBLE_DEVICES")
