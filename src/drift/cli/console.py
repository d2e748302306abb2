"""What people see goes to stderr; with --json the last line of stdout is one JSON object."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

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
    TimeRemainingColumn,
)
from rich.table import Table

from drift.progress import listening

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")]
PATIENCE = 1.0
"""Seconds that a task may take before its bar is drawn."""

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)
OnStage = Callable[[str, str, Mapping[str, float]], None]

console = Console(stderr=True, highlight=False)


def summary(value: Any, as_json: bool) -> None:
    """Show a dataclass or a mapping: as a table for people, and as JSON if asked."""
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, entry in plain.items():
        table.add_row(key.replace("_", " "), _shown(entry))
    console.print(table)
    if as_json:
        typer.echo(orjson.dumps(plain, default=str).decode())


def _shown(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in entry.items()) or "none"
    if isinstance(entry, list | tuple):
        return ", ".join(_shown(inner) for inner in entry) or "none"
    return f"{entry:.4g}" if isinstance(entry, float) else str(entry)


@contextmanager
def progress(description: str) -> Iterator[None]:
    """A bar for whatever reports progress inside, from the second second on."""
    bar = Progress(*COLUMNS, console=console, transient=True)
    task = bar.add_task(description, total=None, visible=True)
    begun = time.monotonic()

    def show(done: int, total: int) -> None:
        if time.monotonic() - begun > PATIENCE:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        with listening(show):
            yield
    finally:
        bar.stop()


@contextmanager
def watching_stages() -> Iterator[OnStage]:
    """One line for each stage that is done or reused, and a bar while one is at work."""
    bar = Progress(SpinnerColumn(), *COLUMNS, console=console, transient=True)
    task = bar.add_task("", total=None)
    begun = time.monotonic()

    def on_stage(name: str, event: str, counts: Mapping[str, float]) -> None:
        if event == "running":
            bar.reset(task, description=name, total=None)
            return
        told = ", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in counts.items() if value)
        mark = "[dim]reused[/dim]" if event == "reused" else "[green]done[/green]  "
        console.print(f"{time.monotonic() - begun:6.1f} s  {mark}  {name}  [dim]{told}[/dim]")

    with bar, listening(lambda done, total: bar.update(task, completed=done, total=total)):
        yield on_stage
