"""Progress and notes from stages to the command line, without passing a callback through every function."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[int, int, int], None]
"""Units done, units in total, and the tokens generated or read so far (0: the stage counts no tokens)."""

Note = Callable[[str], None]
"""One line for people about something that happened; the work goes on."""

_on_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)
_on_note: ContextVar[Note | None] = ContextVar("note", default=None)


def report_progress(done: int, total: int, tokens: int = 0) -> None:
    """Called by stages; does nothing if nobody listens."""
    on_progress = _on_progress.get()
    if on_progress is not None:
        on_progress(done, total, tokens)


def report_note(text: str) -> None:
    """Called by stages; does nothing if nobody listens."""
    on_note = _on_note.get()
    if on_note is not None:
        on_note(text)


@contextmanager
def listening(on_progress: Progress, on_note: Note | None = None) -> Iterator[None]:
    """Receive the progress and the notes of everything that runs in this block."""
    progress_token, note_token = _on_progress.set(on_progress), _on_note.set(on_note)
    try:
        yield
    finally:
        _on_progress.reset(progress_token)
        _on_note.reset(note_token)


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
