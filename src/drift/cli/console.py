"""What people see goes to stderr; with --json the last line of stdout is one JSON object."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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


def _above_zero(value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise typer.BadParameter(
            f"{value:g} would let nothing be asked: give more than 0, or leave it out for no limit."
        )
    return value


MaxCost = Annotated[
    float | None,
    typer.Option(callback=_above_zero, help="In the currency of the prices: nothing is asked that could pass it."),
]

if TYPE_CHECKING:
    from drift.evals.exploration.results import MethodResult
    from drift.evaluation.results import UtilityResult
    from drift.experiments.compare.run import Done
    from drift.rundir import OnStage

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[rate]}"),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)

console = Console(stderr=True, highlight=False)


def summary(value: Any, as_json: bool) -> None:
    """Show a dataclass or a mapping: as a table for people, without what is None, and as JSON if asked."""
    plain: Mapping[str, Any] = value if isinstance(value, Mapping) else dataclasses.asdict(value)
    shown = {key: entry for key, entry in plain.items() if entry is not None}
    width = max((len(key) for key in shown), default=0)
    for key, entry in shown.items():
        console.print(f"{key.replace('_', ' '):{width}}  {_shown(entry)}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(orjson.dumps(plain, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


def leaderboard(plain: Mapping[str, Any], as_json: bool) -> None:
    """Figures of one model, or of several under `models`; what makes them no numbers for a leaderboard beside them."""
    for name, figures in plain.get("models", {"": plain}).items():
        console.print(f"[bold]{name or figures.get('model', 'not asked')}[/bold]")
        reasons = figures.get("not_comparable", ())
        summary({k: v for k, v in figures.items() if v is not None and k not in ("model", "not_comparable")}, False)
        if reasons:
            console.print(f"[yellow]not leaderboard-comparable[/yellow]: {'; '.join(reasons)}", soft_wrap=True)
    if as_json:
        typer.echo(orjson.dumps(plain, default=str).decode())


def regions(methods: "Mapping[str, MethodResult]") -> None:
    """Shares of the region of high reward, and diversity, by method."""
    table = Table(title="mass share of the top 10 % region [95 % interval]", title_justify="left", box=None)
    for column in ("policy", "on the map", "in space", "self-BLEU", "Vendi", "good@1", "good@n"):
        table.add_column(column)
    for name, result in methods.items():
        shares = [next(s.mass for s in kind if s.top_percent == 10) for kind in (result.map, result.raw)]
        told = [f"{s.value:.2f} [dim][{s.low:.2f}, {s.high:.2f}][/dim]" for s in shares]
        reached = list(result.coverage.values())
        numbers = (result.self_bleu, result.vendi, reached[0], reached[-1])
        table.add_row(name, *told, *(f"{number:.2f}" for number in numbers))
    console.print(table)


def utilities(rows: Sequence[tuple[str, "Sequence[UtilityResult]"]]) -> None:
    """True utility by policy and temperature, with the interval over prompts."""
    table = Table(title="true utility of held-out prompts [95 % interval]", title_justify="left", box=None)
    table.add_column("policy")
    for result in rows[0][1]:
        name = f"temperature {result.temperature:g}" if result.temperature else "greedy"
        table.add_column(name, no_wrap=True)
    for name, results in rows:
        table.add_row(name, *(f"{r.mean:.3f} [dim][{r.low:.3f}, {r.high:.3f}][/dim]" for r in results))
    console.print(table)


def comparison(done: "Done", as_json: bool) -> None:
    """The table of a comparison, where its files lie, and as JSON if asked."""
    from drift.experiments.compare.table import markdown

    console.print(markdown(done.comparison), soft_wrap=True, markup=False)
    console.print(f"results: {done.folder / 'results.md'}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(done.comparison.model_dump_json())


def _shown(entry: Any) -> str:
    if isinstance(entry, Mapping):
        told = (f"{key} {_shown(inner)}" for key, inner in entry.items() if inner is not None)
        return ", ".join(told) or "none"
    if isinstance(entry, list | tuple):
        return ", ".join(_shown(inner) for inner in entry) or "none"
    return f"{entry:.4g}" if isinstance(entry, float) else str(entry)


@contextmanager
def progress(description: str) -> Iterator[None]:
    """A bar for whatever reports progress inside, from the second second on."""
    bar = Progress(*COLUMNS, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(description, total=None, visible=True, rate="")
    begun = time.monotonic()

    def show(done: int, total: int, tokens: int) -> None:
        if time.monotonic() - begun > PATIENCE:
            bar.start()
        bar.update(task, completed=done, total=total, rate=_rate(tokens, begun))

    try:
        with listening(show, lambda text: console.print(f"{description}: {text}", soft_wrap=True, markup=False)):
            yield
    finally:
        if bar.live.is_started:  # stopping a bar that was never drawn prints an empty line
            bar.stop()


@contextmanager
def watching_stages() -> "Iterator[OnStage]":
    """One line for each stage: done, or reused, or why it is redone; on a terminal a bar while one is at work."""
    bar = Progress(SpinnerColumn(), *COLUMNS, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("logs and labels", total=None, rate="")  # what comes before the first stage
    begun = stage_begun = time.monotonic()

    def on_stage(name: str, event: str, counts: Mapping[str, int | float | None]) -> None:
        nonlocal stage_begun
        if event == "running":
            stage_begun = time.monotonic()
            bar.reset(task, description=name, total=None, rate="")
            return
        told = ", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in counts.items() if value)
        mark = "[dim]reused[/dim]" if event == "reused" else "[green]done[/green]  "
        console.print(f"{time.monotonic() - begun:6.1f} s  {mark}  {name}  [dim]{told}[/dim]", soft_wrap=True)

    def show(done: int, total: int, tokens: int) -> None:
        bar.update(task, completed=done, total=total, rate=_rate(tokens, stage_begun))

    def tell(text: str) -> None:
        console.print(f"{time.monotonic() - begun:6.1f} s  {text}", soft_wrap=True, markup=False, style="yellow")

    with bar, listening(show, tell):
        yield on_stage


def _rate(tokens: int, since: float) -> str:
    return f"{tokens / max(time.monotonic() - since, 1e-9):,.0f} tokens/s" if tokens else ""


StoreDir = Annotated[Path, typer.Option("--store", help="The store's folder.")]
