"""A chart as inline SVG. Colours become the page's CSS variables and so follow its light and dark theme."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from drift.errors import PrerequisiteError

# matplotlib wants colours; these stand for CSS variables and occur nowhere else in its output.
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
class Point:
    """A value, with its interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart; None where nothing was measured."""

    name: str
    points: tuple[Point | None, ...]


@contextmanager
def drawing(title: str, size: tuple[float, float] = WIDE) -> Iterator[tuple[Any, Any]]:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise PrerequisiteError("The report's charts need matplotlib: pip install 'drift-training[train]'") from None
    # The salt makes the SVG's ids the same in every run, and different from those of the page's other charts.
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
    svg = re.sub(r'\sid="[\w.]+_\d+"| xmlns(:\w+)?="[^"]*"', "", svg)  # ids that no one refers to; names HTML knows
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)  # a hundredth of a point is finer than any screen
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return Markup(svg.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(title), 1))
