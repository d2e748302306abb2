"""How far the work has come: stages say it here, and the command line shows it if it listens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[int, int, int], None]
"""Units done, units in all, and the tokens that were made or read on the way (0: the stage counts none)."""

Note = Callable[[str], None]
"""One line for people: something happened that they would want to know, and the work goes on."""

_listener: ContextVar[Progress | None] = ContextVar("progress", default=None)
_reader: ContextVar[Note | None] = ContextVar("note", default=None)


def report_progress(done: int, total: int, tokens: int = 0) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(done, total, tokens)


def report_note(text: str) -> None:
    reader = _reader.get()
    if reader is not None:
        reader(text)


@contextmanager
def listening(listener: Progress, reader: Note | None = None) -> Iterator[None]:
    token, note = _listener.set(listener), _reader.set(reader)
    try:
        yield
    finally:
        _listener.reset(token)
        _reader.reset(note)
