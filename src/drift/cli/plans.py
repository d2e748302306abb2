"""The plan of a run as people see it."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from drift.cli.console import console, summary_json

if TYPE_CHECKING:
    from drift.plan import PlannedStage, RunPlan

_HEAD = ("stage", "rows", "tokens (at most)", "pieces", "cores, data", "GPU", "or cores", "reads", "writes")


def show_plan(plan: "RunPlan", as_json: bool) -> None:
    """What is kept, what will be done and what it costs, then the assumptions; as JSON also the constants."""
    size = "an unknown number of" if plan.weights is None else _count(plan.weights)
    _line(f"run {plan.run}: {plan.model}, {size} weights ({plan.weights_from}). Nothing is done yet.")
    for stage in plan.stages:
        if stage.kept:
            _line(f"kept    {stage.name}  ({stage.rows:,} {stage.rows_of})")
    to_do = [stage for stage in plan.stages if not stage.kept]
    _table([_HEAD, *map(_cells, to_do), _cells(plan.total)])
    for stage in to_do:
        if stage.note:
            _line(f"{stage.name}: {stage.note}")
    if plan.total.price is not None:
        _line(f"servers: {plan.total.price:,.2f}, by the prices in the settings")
    _line("cores, data: hours of CPU cores. GPU, or cores: hours of the model on GPUs (H100), or on CPU cores.")
    for assumption in plan.assumptions:
        _line(f"assumed: {assumption}")
    _line("constants: --json lists them with what measured them; docs/cluster.md says which are assumed")
    if as_json:
        summary_json(dataclasses.asdict(plan))


def _cells(stage: "PlannedStage") -> tuple[str, ...]:
    from drift.plan.costs import in_bytes

    tokens = f"{_count(stage.tokens)} ({_count(stage.tokens_at_most)})" if stage.tokens_at_most else ""
    pieces = f"{stage.pieces:,} x {stage.piece}" if stage.pieces else ""
    moved = (in_bytes(gigabytes * 1e9) if gigabytes else "" for gigabytes in (stage.read_gb, stage.written_gb))
    rows = f"{stage.rows:,} {stage.rows_of}" if stage.rows_of else ""
    hours = map(_time, (stage.core_hours, stage.gpu_hours, stage.cpu_hours))
    return (stage.name, rows, tokens, pieces, *hours, *moved)


def _count(number: float) -> str:
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def _time(hours: float | None) -> str:
    if hours is None:
        return "unknown"
    if hours >= 1:
        return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h"
    seconds = hours * 3600
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.2g} s" if seconds >= 0.05 else ""


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _line("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _line(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False)
