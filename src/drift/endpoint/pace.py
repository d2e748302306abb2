"""How many requests may be in flight: one more after each round of successes, half as many after a failure."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST = 4
LONGEST_PAUSE = 60.0


class Pace:
    """Additive increase, multiplicative decrease, between 1 and `ceiling`; shared by all threads."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = float(min(FIRST, ceiling))
        self._under_way = 0
        self._not_before = 0.0
        self._last_cut = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, stop: threading.Event) -> Iterator[float | None]:
        """Wait until one more request may start; yields its start time, or None once `stop` is set."""
        with self._changed:
            while not stop.is_set():
                pause = self._not_before - time.monotonic()
                if pause <= 0 and self._under_way < int(self.limit):
                    break
                self._changed.wait(min(max(pause, 0.01), 1.0) if pause > 0 else 1.0)
            self._under_way += 1
        try:
            yield None if stop.is_set() else time.monotonic()
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def succeeded(self) -> None:
        with self._changed:
            self.limit = min(self.limit + 1 / self.limit, float(self.ceiling))
            self._changed.notify_all()

    def strained(self, begun: float, wait: float) -> None:
        """The server refused or failed a request that started at `begun`; nothing is sent for `wait` seconds.

        A request that was in flight when the limit was last halved tells nothing new, and does not halve it again.
        """
        with self._changed:
            now = time.monotonic()
            if begun >= self._last_cut:
                self.limit = max(1.0, self.limit / 2)
                self._last_cut = now
            self._not_before = max(self._not_before, now + wait)


def pause_before(attempt: int) -> float:
    """Seconds before the attempt of this number (the first retry is 1): exponential, with full jitter."""
    return random.uniform(0.0, min(LONGEST_PAUSE, 0.5 * 2**attempt))
