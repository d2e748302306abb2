"""The processes that compute the cells of a comparison, and what they report meanwhile.

A cell of a real model takes hours. Its notes, and once a minute how far its stage is, go through a queue to the
command, which reports them as its own. Hundreds of cells have much the same notes: of those that differ in their
numbers alone, the first is reported, the others are counted, and their count is reported at the end.
"""

import itertools
import multiprocessing
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import copy_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from drift.engine import end_on_interrupt, end_with_parent, interrupts_wait, spawn_context
from drift.errors import DriftError
from drift.experiments.compare.settings import Cell
from drift.progress import Heartbeat, listening, report_note, report_progress
from drift.rundir import OnStage

REPORT_SECONDS = 2
"""The command reports how many cells are done at least this often: a terminal draws no bar before a report."""

Work = Callable[[Cell, Path, OnStage], Any]
"""Computes a part of a comparison in its folder, and says which stage it is at."""

_NUMBER = re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{8,}\b|((?<!\w)-)?\d+([.,]\d+)*(e[-+]?\d+)?")
"""What notes of the same words differ in: numbers and hashes."""

_to_command: Queue | None = None
"""In a worker: takes pairs (cell, note), or ("", line) for a line that names its cell itself."""


class Workers:
    """A pool of `count` processes that stay alive, so that each loads torch only once."""

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self._pool, self._count = pool, count

    def run(self, work: Work, cells: Sequence[Cell], folder: Path, what: str) -> None:
        """Compute `what`: `work` on every cell. After an error no other cell begins."""
        waiting, running = iter(_named(cells, what)), dict[Future[bool], str]()
        computed: list[bool] = []  # of each finished cell; False: an earlier command had done it all
        failures: list[Exception] = []
        report_progress(0, len(cells))
        while True:
            for name, cell in [] if failures else itertools.islice(waiting, self._count - len(running)):
                with interrupts_wait():
                    running[self._pool.submit(_compute, work, cell, folder, name)] = name
            if not running:
                break
            for future in wait(running, REPORT_SECONDS, FIRST_COMPLETED).done:
                name, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise DriftError(
                        f"a process that computed {what} was killed, probably for lack of memory. What it had finished "
                        "is kept: repeat the command with fewer workers (--workers), or in the config a smaller "
                        "micro_batch_tokens (of `warm_start` and `training`) or `policy.lora`."
                    )
                if isinstance(error, Exception):  # the first is raised after the cells that run
                    failures.append(_naming(name, error))
                    _report_failure(failures, tuple(running.values()))
                else:
                    computed.append(future.result())
            report_progress(sum(computed), len(cells) - computed.count(False))
        if failures:
            raise failures[0]
        if cells:
            reused = computed.count(False)
            report_note(f"{what}: {len(cells)} done{f', {reused} of them by an earlier command' if reused else ''}")


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    context = spawn_context()
    lines: Queue = context.Queue()
    lines.cancel_join_thread()  # a worker that is killed while it writes keeps the lock for which our last line waits
    # a worker that is killed while it writes may leave half a line: this thread alone would wait for the rest
    listener = threading.Thread(target=copy_context().run, args=(_pass_on, lines), daemon=True)
    listener.start()
    others = multiprocessing.active_children()
    try:
        with ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(lines,)) as pool:
            try:
                yield Workers(pool, count)
            except KeyboardInterrupt:  # Ctrl-C reaches the workers too, but `kill -INT` does not
                for child in set(multiprocessing.active_children()).difference(others):
                    child.terminate()
                raise
    finally:
        lines.put(None)
        listener.join(timeout=5)


def _naming(name: str, error: Exception) -> Exception:
    """The error of a cell; one of ours names the cell."""
    if isinstance(error, DriftError):
        error.args = (f"{name}: {error}",)
    return error


def _report_failure(failures: Sequence[Exception], running: Sequence[str]) -> None:
    """The first error is raised after the cells that run, which may take hours: until then, nothing else names it."""
    if len(failures) > 1:
        report_note(f"failed too: {failures[-1]}")
    elif running:
        report_note(
            f"failed, so no other cell begins; the command ends after {'; '.join(running)} (Ctrl-C ends it now, and "
            f"the same command resumes): {str(failures[0]) or repr(failures[0])}"
        )


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
            report_note(f"{times - 1} more time{'s' if times > 2 else ''}: {words}")


def _begin(lines: Queue) -> None:
    """One thread per worker: the digits of a cell must not depend on how many workers run at the same time."""
    global _to_command
    end_on_interrupt()
    end_with_parent()
    import torch

    torch.set_num_threads(1)
    _to_command = lines


def _compute(work: Work, cell: Cell, folder: Path, name: str) -> bool:
    """In a worker: the work, with its notes and its progress sent to the command. False if nothing was left to do."""
    heartbeat = Heartbeat(name, lambda _, line: _send("", line))
    computed = False

    def on_stage(stage: str, event: str, _: Mapping[str, int | float | None]) -> None:
        nonlocal computed
        if event == "running":
            computed = True
            heartbeat.restart(f"{name}, {stage}")

    with heartbeat, listening(heartbeat.beat, lambda note: _send(name, note), heartbeat.begun):
        work(cell, folder, on_stage)
    return computed


def _send(cell: str, line: str) -> None:
    if _to_command is not None:
        _to_command.put((cell, line))
