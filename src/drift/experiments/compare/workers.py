"""The processes that compute the cells of a comparison, and what they tell meanwhile.

A cell of a real model takes hours. Its notes, and once a minute how far its stage is, travel through a queue to the
command, which tells them as its own. Hundreds of cells say much the same, so a note whose words were told before is
counted; the number of those is told at the end.
"""

import multiprocessing
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import copy_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from drift.engine import end_with_parent
from drift.errors import DriftError
from drift.experiments.compare.settings import Cell
from drift.progress import Heartbeat, listening, report_note, report_progress
from drift.rundir import OnStage

REPORT_SECONDS = 60
"""The command tells how many cells are done at least this often."""

Work = Callable[[Cell, Path, OnStage], Any]
"""Computes a part of a comparison in its folder, and says which stage it is at."""

_NUMBER = re.compile(r"-?\d[\d.,]*(e-?\d+)?")

_to_command: Queue | None = None
"""In a worker: where its lines go. (whose, line); whose is "" for a line that is told as it is."""


class Workers:
    """A pool of processes that stay alive, so that each loads torch only once."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def run(self, work: Work, cells: Sequence[Cell], folder: Path, what: str) -> None:
        """Compute `what`: `work` on every cell. The first error cancels what has not begun."""
        futures = [self._pool.submit(_compute, work, cell, folder, name) for name, cell in _named(cells, what)]
        running = set(futures)
        try:
            while running:
                done, running = wait(running, REPORT_SECONDS, FIRST_COMPLETED)
                for future in done:
                    future.result()
                report_progress(len(futures) - len(running), len(futures))
            if futures:
                report_note(f"{what}: {len(futures)} done")
        except BrokenProcessPool:
            raise DriftError(
                f"a process that computed {what} was killed, probably for lack of memory. What it had finished is "
                "kept: repeat the command with fewer workers (--workers), or in the config a smaller "
                "micro_batch_tokens (of `warm_start` and `training`) or `policy.lora`."
            ) from None
        except BaseException:
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    context = multiprocessing.get_context("spawn")
    lines: Queue = context.Queue()
    # a worker that is killed while it writes may leave half a line, for which this thread alone would wait
    ear = threading.Thread(target=copy_context().run, args=(_listen, lines), daemon=True)
    ear.start()
    try:
        with ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(lines,)) as pool:
            yield Workers(pool)
    finally:
        lines.put(None)
        ear.join(timeout=5)


def _named(cells: Iterable[Cell], what: str) -> Iterator[tuple[str, Cell]]:
    for cell in cells:
        yield f"{cell.name}, {cell.arm if what == 'cells' else what}", cell


def _listen(lines: Queue) -> None:
    """Tell each line, and a note whose words were told before only once."""
    told: Counter[str] = Counter()
    while (said := lines.get()) is not None:
        whose, line = said
        words = _NUMBER.sub("N", line)
        if not whose or words not in told:
            report_note(f"{whose}: {line}" if whose else line)
        if whose:
            told[words] += 1
    for words, times in told.items():
        if times > 1:
            report_note(f"{times - 1} more times: {words}")


def _begin(lines: Queue) -> None:
    """One thread per worker: the digits of a cell must not depend on how many workers run at the same time."""
    global _to_command
    end_with_parent()
    import torch

    torch.set_num_threads(1)
    _to_command = lines


def _compute(work: Work, cell: Cell, folder: Path, name: str) -> None:
    """In a worker: the work, and what it tells."""
    heartbeat = Heartbeat(name, lambda _, line: _say("", line))

    def on_stage(stage: str, event: str, _: Mapping[str, int | float | None]) -> None:
        if event == "running":
            heartbeat.restart(f"{name}, {stage}")

    with heartbeat, listening(heartbeat.beat, lambda note: _say(name, note)):
        work(cell, folder, on_stage)


def _say(whose: str, line: str) -> None:
    if _to_command is not None:
        _to_command.put((whose, line))
