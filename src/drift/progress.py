"""Progress and notes from stages to the command line, without passing a callback through every function."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

ProgressListener = Callable[[int, int, int], None]
"""Units done, units in total, and the tokens generated or read so far (0: the stage counts no tokens)."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Units that were begun together and are not done yet: the unfinished replies of a batch. `work`: how many units'
    worth of work is done on them. Most replies of a batch finish near its end, so the number of those that are done
    says little about the time left."""

    units: int = 0
    work: float = 0.0


NONE_UNDER_WAY = UnderWay()

Note = Callable[[str], None]
"""One line for people about something that happened; the work goes on."""

HEARTBEAT_SECONDS = 60.0
"""Where no bar is drawn, a long task reports how far it is once per this time."""

_on_progress: ContextVar[ProgressListener | None] = ContextVar("progress", default=None)
_on_note: ContextVar[Note | None] = ContextVar("note", default=None)
_on_under_way: ContextVar[Callable[[UnderWay], None] | None] = ContextVar("under_way", default=None)


def report_progress(done: int, total: int, tokens: int = 0, under_way: UnderWay = NONE_UNDER_WAY) -> None:
    """Called by stages; does nothing if nobody listens."""
    on_under_way = _on_under_way.get()
    if on_under_way is not None:
        on_under_way(under_way)
    on_progress = _on_progress.get()
    if on_progress is not None:
        on_progress(done, total, tokens)


def report_note(text: str) -> None:
    """Called by stages; does nothing if nobody listens."""
    on_note = _on_note.get()
    if on_note is not None:
        on_note(text)


@contextmanager
def listening(
    on_progress: ProgressListener, on_note: Note | None = None, on_under_way: Callable[[UnderWay], None] | None = None
) -> Iterator[None]:
    """Receive the progress and the notes of everything that runs in this block. `on_under_way`: called before each
    progress, with what was begun and is not done."""
    progress_token, note_token = _on_progress.set(on_progress), _on_note.set(on_note)
    under_way_token = _on_under_way.set(on_under_way)
    try:
        yield
    finally:
        _on_progress.reset(progress_token)
        _on_note.reset(note_token)
        _on_under_way.reset(under_way_token)


@contextmanager
def part_of(total: int, before: int, tokens_before: int = 0) -> Iterator[list[int]]:
    """Progress in this block is that of a part of `total` units, of which `before` were done already.

    Yields a list with one number: the tokens so far, in this part and before it.
    """
    on_progress, tokens_so_far = _on_progress.get(), [tokens_before]

    def of_the_whole(done: int, _: int, tokens: int) -> None:
        tokens_so_far[0] = tokens_before + tokens
        if on_progress is not None:
            on_progress(before + done, total, tokens_so_far[0])

    token = _on_progress.set(of_the_whole)
    try:
        yield tokens_so_far
    finally:
        _on_progress.reset(token)


class Heartbeat:
    """Reports how far a task is, once per HEARTBEAT_SECONDS.

    `report`: called with the seconds since the first task began and the line; None: nobody listens. A thread of its own
    calls it where a single piece of the work takes longer than that.
    """

    def __init__(self, name: str, report: Callable[[float, str], None] | None) -> None:
        self._report, self._lock, self._over = report, threading.Lock(), threading.Event()
        self._begun = time.monotonic()
        self.restart(name)

    def __enter__(self) -> "Heartbeat":
        if self._report is not None:
            threading.Thread(target=self._repeat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def restart(self, name: str) -> None:
        self.name = name
        self.last = time.monotonic()
        self._now, self._under_way = (0, 0, 0), NONE_UNDER_WAY
        self._first: tuple[float, int, int, float] | None = None

    def begun(self, under_way: UnderWay) -> None:
        """Called before each `beat`, with what the task has begun beside what it has done."""
        with self._lock:
            self._under_way = under_way

    def beat(self, done: int, total: int, tokens: int = 0) -> None:
        """Called with every progress of the task."""
        with self._lock:
            # what an earlier command did says nothing about how fast this one is, nor does the part before this one
            if self._first is None or done < self._now[0] or total != self._now[1]:
                self._first = (time.monotonic(), done, tokens, self._under_way.work)
            self._now = (done, total, tokens)
        self._report_if_due()

    @property
    def token_rate(self) -> str:
        """Tokens per second in the part that is under way, in words; empty if it has counted none."""
        since, _, before, _ = self._first or (0.0, 0, 0, 0.0)
        tokens = self._now[2] - before
        return f"{tokens / max(time.monotonic() - since, 1e-9):,.0f} tokens/s" if tokens > 0 else ""

    @property
    def time_left(self) -> str:
        """How long the part that is under way still takes, in words; empty while nothing shows it."""
        since, before, _, begun_before = self._first or (0.0, 0, 0, 0.0)
        done, total = self._now[0] - before, self._now[1] - before
        whole = done + self._under_way.work
        timed = whole - begun_before  # the clock began at the first report, when some of it was done
        # a reply may end long before its token limit: until half of what was begun is done, nothing shows when
        if not self._now[1] or timed <= 0 or whole < (done + self._under_way.units) / 2:
            return ""
        seconds = max(time.monotonic() - since, 1e-9)
        return f"about {(total - whole) * seconds / timed:,.0f} s left"

    def _repeat(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS / 6):
            self._report_if_due()

    def _report_if_due(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self._report is None or now - self.last < HEARTBEAT_SECONDS:
                return
            self.last = now
            done, total, tokens = self._now
            since, before, _, _ = self._first or (now, 0, 0, 0.0)
            per_second = (done - before) / max(now - since, 1e-9)
            share = f"{done} of {total}" if total else f"{done} done" if done else "working"
            rate = f", {self.token_rate}" if self.token_rate else ""
            if per_second > 0 and total and not tokens:
                rate = f", {_per_minute(per_second * 60)}"
            left = f", {self.time_left}" if self.time_left else ""
            self._report(now - self._begun, f"{self.name}: {share}{rate}{left}")


def _per_minute(rate: float) -> str:
    return f"{rate:,.0f} a minute" if rate >= 10 else f"{rate:.2g} a minute"
