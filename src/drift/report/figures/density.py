"""Where a policy's rewarded replies lie on the map of all replies: filled contours, and the region of high reward."""

import numpy as np
from markupsafe import Markup

from drift.report.figures.drawing import INK, SERIES, as_svg, drawing

STEPS = (0.04, 0.15, 0.3, 0.5, 0.7, 0.9)
"""Of the largest density of all panels: where the contours lie."""


def density_chart(title: str, density: np.ndarray, region: np.ndarray, largest: float) -> Markup:
    """density: float [G, G], the first axis to the right; region: bool [G, G]; `largest`: over all panels."""
    with drawing(title, (3.4, 3.1)) as (figure, axes):
        for step in STEPS:
            axes.contourf(density.T, levels=[step * largest, np.inf], colors=[SERIES[0]], alpha=0.2)
        axes.contour(region.T.astype(float), levels=[0.5], colors=[INK], linewidths=0.9)
        axes.set_axis_off()
        axes.set_aspect("equal")
        return as_svg(figure, title)
