"""Differences side by side: a point with its interval for each, and the line of no difference."""

from collections.abc import Sequence

from markupsafe import Markup

from drift.report.figures.drawing import INK, SERIES, Point, as_svg, drawing

WIDTH, ROW, MARGIN = 4.6, 0.3, 0.55  # inches


def forest_chart(title: str, rows: Sequence[tuple[str, Point]]) -> Markup:
    """From top to bottom; each name stands above its own interval, so that a telephone is wide enough."""
    with drawing(title, (WIDTH, 1.6 * ROW * len(rows) + MARGIN)) as (figure, axes):
        places = range(0, -len(rows), -1)
        axes.vlines([0] * len(rows), [y - 0.25 for y in places], [y + 0.2 for y in places], color=INK, lw=1.0)
        for place, (name, point) in enumerate(rows):
            low, high = (point.value if end is None else end for end in (point.low, point.high))
            told = low > 0 or high < 0
            axes.plot([low, high], [-place, -place], "-", lw=2.2, alpha=0.6, color=SERIES[0] if told else INK)
            axes.plot([point.value], [-place], "o", ms=6, color=SERIES[0] if told else INK)
            axes.text(0, 0.22 - place, name, va="bottom", transform=axes.get_yaxis_transform())
        axes.set_ylim(0.7 - len(rows), 0.95)
        axes.set_yticks([])
        axes.grid(axis="x")
        axes.margins(x=0.06)
        return as_svg(figure, title)
