"""Charts as inline SVG. Colours become the page's CSS variables, so they follow its light and dark theme."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from drift.errors import PrerequisiteError

# matplotlib needs colours: these are placeholders for CSS variables and occur nowhere else in its output.
INK, FAINT, SERIES = "#010203", "#010204", ("#010205", "#010206", "#010207", "#010208")
VARIABLES = {INK: "--muted", FAINT: "--line"} | {colour: f"--series-{i}" for i, colour in enumerate(SERIES, 1)}
STYLE: Any = {
    "svg.fonttype": "none",  # real text: it can be read aloud, searched, and takes the page's font
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.labelcolor": INK,
    "legend.frameon": False,
}
WIDE = (6.4, 3.2)  # inches


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """A value, with its interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart; None where nothing was measured."""

    name: str
    points: tuple[ChartPoint | None, ...]


@contextmanager
def drawing(title: str, size: tuple[float, float] = WIDE) -> Iterator[tuple[Any, Any]]:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise PrerequisiteError("the report's charts need matplotlib: pip install 'drift-training[train]'") from None
    # The salt makes the SVG's ids reproducible, and different from those of the page's other charts.
    with rc_context({**STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        yield figure, axes


def as_svg(figure: Any, title: str) -> Markup:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    svg = out.getvalue()[out.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sid="[\w.]+_\d+"| xmlns(:\w+)?="[^"]*"', "", svg)  # unused ids; namespaces that HTML implies
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)  # a hundredth of a point is finer than any screen
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return Markup(svg.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(title), 1))


CONTOURS = (0.04, 0.15, 0.3, 0.5, 0.7, 0.9)
"""Contour levels, as shares of the largest density of all panels."""


def density_chart(title: str, density: np.ndarray, region: np.ndarray, largest: float) -> Markup:
    """density: float [G, G], x first; region: bool [G, G]; `largest`: over all panels."""
    with drawing(title, (3.4, 3.1)) as (figure, axes):
        for level in CONTOURS:
            axes.contourf(density.T, levels=[level * largest, np.inf], colors=[SERIES[0]], alpha=0.2)
        axes.contour(region.T.astype(float), levels=[0.5], colors=[INK], linewidths=0.9)
        axes.set_axis_off()
        axes.set_aspect("equal")
        return as_svg(figure, title)


FOREST_WIDTH, FOREST_ROW, FOREST_MARGIN = 4.6, 0.3, 0.55  # inches


def forest_chart(title: str, rows: Sequence[tuple[str, ChartPoint]]) -> Markup:
    """Rows from top to bottom. Each name is above its interval, so that the chart fits a phone."""
    with drawing(title, (FOREST_WIDTH, 1.6 * FOREST_ROW * len(rows) + FOREST_MARGIN)) as (figure, axes):
        places = range(0, -len(rows), -1)
        axes.vlines([0] * len(rows), [y - 0.25 for y in places], [y + 0.2 for y in places], color=INK, lw=1.0)
        for place, (name, point) in enumerate(rows):
            low, high = (point.value if end is None else end for end in (point.low, point.high))
            color = SERIES[0] if low > 0 or high < 0 else INK
            axes.plot([low, high], [-place, -place], "-", lw=2.2, alpha=0.6, color=color)
            axes.plot([point.value], [-place], "o", ms=6, color=color)
            axes.text(0, 0.22 - place, name, va="bottom", transform=axes.get_yaxis_transform())
        axes.set_ylim(0.7 - len(rows), 0.95)
        axes.set_yticks([])
        axes.grid(axis="x")
        axes.margins(x=0.06)
        return as_svg(figure, title)


SMOOTH_FROM = 40  # steps: below that a running mean shows less than the points themselves


def phases_chart(title: str, phases: Sequence[str], series: Sequence[Series]) -> Markup:
    """Values by phase of the run, with their intervals."""
    with drawing(title) as (figure, axes):
        for place, (line, colour) in enumerate(zip(series, SERIES, strict=False)):
            shift = 0.05 * (place - (len(series) - 1) / 2)  # so that intervals do not hide each other
            points = [(x + shift, point) for x, point in enumerate(line.points) if point]
            axes.plot(
                [x for x, _ in points],
                [p.value for _, p in points],
                "-o",
                ms=5,
                lw=1.6,
                color=colour,
                label=line.name,
            )
            for x, point in points:
                if point.low is not None and point.high is not None:
                    axes.plot([x, x], [point.low, point.high], "-", lw=1.6, alpha=0.55, color=colour)
        axes.set_xticks(range(len(phases)), phases)
        axes.set_xlim(-0.35, len(phases) - 0.65)
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=len(series), handlelength=1.2)
        return as_svg(figure, title)


def steps_chart(title: str, phases: Sequence[str], values: Sequence[Sequence[float | None]]) -> Markup:
    """A quantity over the optimizer steps, phase after phase; `values[i]` belongs to `phases[i]`."""
    with drawing(title) as (figure, axes):
        start = 0
        for name, row in zip(phases, values, strict=True):
            points = [math.nan if value is None else value for value in row]
            smooth = len(points) >= SMOOTH_FROM
            x = range(start + 1, start + len(points) + 1)
            axes.plot(x, points, lw=1.2, alpha=0.35 if smooth else 1.0, color=SERIES[0])
            if smooth:
                axes.plot(x, _running_mean(points, len(points) // 10), lw=1.8, color=SERIES[0])
            if start:
                axes.axvline(start + 0.5, color=INK, lw=0.6, ls=(0, (2, 3)))
            label_at = (start + 0.5 + len(points) / 2, 1.02)
            axes.text(*label_at, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
            start += len(points)
        axes.set_xlabel("logged step")
        axes.set_xlim(0.5, start + 0.5)  # also where a phase begins or ends with a gap: its name is in the middle
        return as_svg(figure, title)


MOST_DAYS_NAMED = 7


def days_chart(title: str, days: Sequence[str], series: Sequence[Series], unit: str = "") -> Markup:
    """Values by day, `points[i]` on `days[i]`, with their intervals as bands; days without a value are skipped."""
    with drawing(title) as (figure, axes):
        for line, colour in zip(series, SERIES, strict=False):
            drawn = [(x, point) for x, point in enumerate(line.points) if point]
            x = [place for place, _ in drawn]
            lows = [point.value if point.low is None else point.low for _, point in drawn]
            highs = [point.value if point.high is None else point.high for _, point in drawn]
            axes.fill_between(x, lows, highs, color=colour, alpha=0.16, linewidth=0)
            axes.plot(x, [p.value for _, p in drawn], "-o", ms=3.5, lw=1.8, color=colour, label=line.name)
            if len(drawn) == 1:
                axes.plot([x[0], x[0]], [lows[0], highs[0]], "-", lw=1.6, alpha=0.55, color=colour)
            if lows and min(lows) < 0 < max(highs):
                axes.axhline(0, color=INK, lw=1.0)
        named = range(0, len(days), -(-len(days) // MOST_DAYS_NAMED))
        axes.set_xticks(named, [days[place] for place in named])
        axes.set_ylabel(unit)
        axes.margins(x=0.05)
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=2, handlelength=1.2)
        return as_svg(figure, title)


def arm_chart(
    title: str, arm: Sequence[ChartPoint], beside: Sequence[ChartPoint], limits: tuple[float, float]
) -> Markup:
    """An arm by iteration from 0, with its interval as a band; dashed, the arm `beside`. `limits`: of the y axis."""
    with drawing(title, (4.2, 2.5)) as (figure, axes):
        axes.plot(range(len(beside)), [point.value for point in beside], lw=1.2, ls=(0, (4, 2)), color=INK)
        steps = range(len(arm))
        lows = [point.value if point.low is None else point.low for point in arm]
        highs = [point.value if point.high is None else point.high for point in arm]
        axes.fill_between(steps, lows, highs, color=SERIES[0], alpha=0.18, linewidth=0)
        axes.plot(steps, [point.value for point in arm], "-o", ms=3.5, lw=1.8, color=SERIES[0])
        low, high = limits
        axes.set_ylim(low, high if high > low else low + 0.1)
        axes.set_xticks(range(0, len(arm), max(1, len(arm) // 6)))
        axes.margins(x=0.03)
        return as_svg(figure, title)


def _running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Mean of the values at most `reach` steps away; steps without a value do not count."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    logged = ([value for value in window if not math.isnan(value)] for window in windows)
    return [sum(window) / len(window) if window else math.nan for window in logged]
