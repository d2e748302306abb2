"""The page of `drift gate`: the verdict, every guard with its interval, and requests that the new model lost."""

from collections.abc import Mapping
from pathlib import Path

from drift.gate.guards import GUARDS
from drift.gate.results import GateResult, GuardResult
from drift.gate.verdict import amounts, explain
from drift.report.figures import ChartPoint, forest_chart
from drift.report.words import fill
from drift.rundir import atomic_write

MOST_MARGINS = 4.0
"""The chart ends this many margins from the limit."""

TONES: Mapping[str, str] = {"pass": "better", "fail": "worse"}
TITLES: Mapping[str, str] = {
    "pass": "Pass: the new model may go out",
    "fail": "Fail: the new model should not go out",
    "undecided": "Undecided: the items do not show enough",
}


def write_gate_page(result: GateResult, out: Path) -> Path:
    """Write the page to `out`. Raises PrerequisiteError without matplotlib."""
    rows = [(guard.name, from_limit(guard)) for guard in result.guards]
    page = fill(
        "gate.html.jinja",
        {"amounts": amounts, "explain": explain},
        gate=result,
        title=TITLES[result.verdict],
        tone=TONES.get(result.verdict, "unclear"),
        asks={name: guard.asks for name, guard in GUARDS.items()},
        chart=forest_chart("Distance from the limit of each guard, in margins", rows) if rows else None,
    )
    atomic_write(out, page.encode())
    return out


def from_limit(guard: GuardResult) -> ChartPoint:
    """How far a guard is from its limit, in margins: above 0 is inside. 1 is no change at all."""
    if guard.kind == "both sides":
        nearest = 0.0 if guard.low <= 0 <= guard.high else min(abs(guard.low), abs(guard.high))
        ends = abs(guard.change), max(abs(guard.low), abs(guard.high)), nearest
        value, low, high = (1 - end / guard.margin for end in ends)
    else:
        value, low, high = (1 + end / guard.margin for end in (guard.change, guard.low, guard.high))
    return ChartPoint(*(min(max(end, -MOST_MARGINS), MOST_MARGINS) for end in (value, low, high)))
