"""Output for people goes to stderr. With --json the last line of stdout is one JSON object."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from drift.progress import Heartbeat, listening

QUIET_SECONDS = 1.0
"""A task that ends within this time draws no progress bar."""

if TYPE_CHECKING:
    from drift.rundir import OnStage

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[rate]}"),
    TimeElapsedColumn(),
    TextColumn("{task.fields[left]}"),
)

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _SafeConsole(Console):
    """Shows what would control the terminal, or turn the direction of a line, as an escape: logs are written by
    strangers. Tabs and line breaks stay."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text), **options)


console = _SafeConsole(stderr=True, highlight=False)


def summary(result: Any, as_json: bool, keep_names: bool = False) -> None:
    """Print a dataclass or a mapping, one line per field that is not None; with `as_json` also as JSON.

    `keep_names`: the keys are paths or names that people type again, and no words: their underscores stay.
    """
    fields: Mapping[str, Any] = result if isinstance(result, Mapping) else dataclasses.asdict(result)
    known = {name: value for name, value in fields.items() if value is not None}
    lines = known if keep_names else {name.replace("_", " "): value for name, value in known.items()}
    width = max(map(len, lines), default=0)
    for name, value in lines.items():
        console.print(f"{name:{width}}  {as_text(value)}", soft_wrap=True, markup=False)
    if as_json:
        summary_json(fields)


def summary_json(fields: Mapping[str, Any]) -> None:
    """Print one line of JSON on stdout."""
    typer.echo(orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


def printing(lines: list[str]) -> Callable[[str], None]:
    """A function that prints a line and adds it to `lines`."""

    def show(line: str) -> None:
        lines.append(line)
        console.print(line, soft_wrap=True, markup=False)

    return show


def as_text(value: Any) -> str:
    """A value on one line, with four digits of a float."""
    if isinstance(value, Mapping):
        parts = (f"{key} {as_text(inner)}" for key, inner in value.items() if inner is not None)
        return ", ".join(parts) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def heartbeat_of(name: str) -> Heartbeat:
    """One that prints if stderr is not a terminal: a log shows no bars."""
    return Heartbeat(name, None if console.is_terminal else _print_heartbeat)


def _print_heartbeat(seconds: float, line: str) -> None:
    console.print(f"{seconds:6.1f} s  {line}", soft_wrap=True)


@contextmanager
def progress(description: str) -> Iterator[None]:
    """Draw a progress bar for the work inside the `with` block, if it takes longer than QUIET_SECONDS."""
    bar = Progress(*COLUMNS, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(description, total=None, visible=True, rate="", left="")
    started = time.monotonic()
    heartbeat = heartbeat_of(description)

    def draw(done: int, total: int, tokens: int) -> None:
        heartbeat.beat(done, total, tokens)
        if time.monotonic() - started > QUIET_SECONDS:
            bar.start()
        if done < bar.tasks[task].completed:  # the next part of the work: else the clock stands still at the last one's
            bar.reset(task)
        bar.update(task, completed=done, total=total, rate=heartbeat.token_rate, left=heartbeat.time_left)

    def print_note(text: str) -> None:
        console.print(f"{description}: {text}", soft_wrap=True, markup=False)

    try:
        with heartbeat, listening(draw, print_note, heartbeat.begun):
            yield
    finally:
        if bar.live.is_started:  # to stop a bar that was never drawn prints an empty line
            bar.stop()


@contextmanager
def watching_stages() -> "Iterator[OnStage]":
    """Print one line per stage (done, reused, or why it is redone), and on a terminal a bar for the current one."""
    bar = Progress(SpinnerColumn(), *COLUMNS, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("logs and labels", total=None, rate="", left="")  # the work before the first stage
    started = time.monotonic()
    heartbeat = heartbeat_of("logs and labels")

    def on_stage(name: str, event: str, counts: Mapping[str, int | float | None]) -> None:
        if event == "running":
            heartbeat.restart(name)
            bar.reset(task, description=name, total=None, rate="", left="")
            return
        shown = {key: value for key, value in counts.items() if value or isinstance(value, float)}  # 0.0 is a result
        details = ", ".join(f"{key.replace('_', ' ')} {as_text(value)}" for key, value in shown.items())
        mark = "[dim]reused[/dim]" if event == "reused" else "[green]done[/green]  "
        console.print(f"{time.monotonic() - started:6.1f} s  {mark}  {name}  [dim]{details}[/dim]", soft_wrap=True)

    def draw(done: int, total: int, tokens: int) -> None:
        heartbeat.beat(done, total, tokens)
        bar.update(task, completed=done, total=total, rate=heartbeat.token_rate, left=heartbeat.time_left)

    def print_note(text: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {text}", soft_wrap=True, markup=False, style="yellow")

    with bar, heartbeat, listening(draw, print_note, heartbeat.begun):
        yield on_stage
