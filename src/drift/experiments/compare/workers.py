"""The processes that compute the cells of a comparison, and what they report meanwhile.

A cell of a real model takes hours. Its notes, and once a minute how far its stage is, go through a queue to the
command, which reports them as its own. Hundreds of cells have much the same notes: of those that differ in their
numbers alone, the first is reported, the others are counted, and their count is reported at the end.
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
"""The command reports how many cells are done at least this often."""

Work = Callable[[Cell, Path, OnStage], Any]
"""Computes a part of a comparison in its folder, and says which stage it is at."""

_NUMBER = re.compile(r"-?\d[\d.,]*(e-?\d+)?")

_to_command: Queue | None = None
"""In a worker: takes pairs (cell, note), or ("", line) for a line that names its cell itself."""


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
    # a worker that is killed while it writes may leave half a line: this thread alone would wait for the rest
    listener = threading.Thread(target=copy_context().run, args=(_pass_on, lines), daemon=True)
    listener.start()
    try:
        with ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(lines,)) as pool:
            yield Workers(pool)
    finally:
        lines.put(None)
        listener.join(timeout=5)


def _named(cells: Iterable[Cell], what: str) -> Iterator[tuple[str, Cell]]:
    for cell in cells:
        yield f"{cell.name}, {cell.arm if what == 'cells' else what}", cell


def _pass_on(lines: Queue) -> None:
    """Report each line, and of notes with the same words only the first; then how many more there were."""
    notes: Counter[str] = Counter()
    while (message := lines.get()) is not None:
        cell, line = message
        words = _NUMBER.sub("N", line)
        if not cell or words not in notes:
            report_note(f"{cell}: {line}" if cell else line)
        if cell:
            notes[words] += 1
    for words, times in notes.items():
        if times > 1:
            report_note(f"{times - 1} more notes like this one: {words}")


def _begin(lines: Queue) -> None:
    """One thread per worker: the digits of a cell must not depend on how many workers run at the same time."""
    global _to_command
    end_with_parent()
    import torch

    torch.set_num_threads(1)
    _to_command = lines


def _compute(work: Work, cell: Cell, folder: Path, name: str) -> None:
    """In a worker: the work, with its notes and its progress sent to the command."""
    heartbeat = Heartbeat(name, lambda _, line: _send("", line))

    def on_stage(stage: str, event: str, _: Mapping[str, int | float | None]) -> None:
        if event == "running":
            heartbeat.restart(f"{name}, {stage}")

    with heartbeat, listening(heartbeat.beat, lambda note: _send(name, note)):
        work(cell, folder, on_stage)


def _send(cell: str, line: str) -> None:
    if _to_command is not None:
        _to_command.put((cell, line))
