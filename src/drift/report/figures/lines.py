"""Lines over the phases of a run, over its optimizer steps, and over the iterations of an arm."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from drift.report.figures.drawing import INK, SERIES, Point, Series, as_svg, drawing

SMOOTH_FROM = 40  # steps; below that a running mean says less than the points themselves


def phases_chart(title: str, phases: Sequence[str], series: Sequence[Series]) -> Markup:
    """Values by phase of the run, each with its interval."""
    with drawing(title) as (figure, axes):
        for place, (line, colour) in enumerate(zip(series, SERIES, strict=False)):
            shift = 0.05 * (place - (len(series) - 1) / 2)  # so that intervals do not hide each other
            known = [(x + shift, point) for x, point in enumerate(line.points) if point]
            axes.plot(
                [x for x, _ in known], [p.value for _, p in known], "-o", ms=5, lw=1.6, color=colour, label=line.name
            )
            for x, point in known:
                if point.low is not None and point.high is not None:
                    axes.plot([x, x], [point.low, point.high], "-", lw=1.6, alpha=0.55, color=colour)
        axes.set_xticks(range(len(phases)), phases)
        axes.set_xlim(-0.35, len(phases) - 0.65)
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=len(series), handlelength=1.2)
        return as_svg(figure, title)


def steps_chart(title: str, phases: Sequence[str], values: Sequence[Sequence[float | None]]) -> Markup:
    """A quantity over the optimizer steps of each phase in turn; `values[i]` belongs to `phases[i]`."""
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
        axes.margins(x=0.01)
        return as_svg(figure, title)


def arm_chart(title: str, arm: Sequence[Point], beside: Sequence[Point], limits: tuple[float, float]) -> Markup:
    """An arm by iteration from 0, its interval as a band; faintly, the arm it is set `beside`. `limits`: all arms'."""
    with drawing(title, (4.2, 2.5)) as (figure, axes):
        axes.plot(range(len(beside)), [point.value for point in beside], lw=1.2, ls=(0, (4, 2)), color=INK)
        steps = range(len(arm))
        lows = [point.value if point.low is None else point.low for point in arm]
        highs = [point.value if point.high is None else point.high for point in arm]
        axes.fill_between(steps, lows, highs, color=SERIES[0], alpha=0.18, linewidth=0)
        axes.plot(steps, [point.value for point in arm], "-o", ms=3.5, lw=1.8, color=SERIES[0])
        axes.set_ylim(*limits)
        axes.set_xticks(range(0, len(arm), max(1, len(arm) // 6)))
        axes.margins(x=0.03)
        return as_svg(figure, title)


def _running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Mean of the values at most `reach` places away; steps without a value do not count."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    known = ([value for value in window if not math.isnan(value)] for window in windows)
    return [sum(window) / len(window) if window else math.nan for window in known]
