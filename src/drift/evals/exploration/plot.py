"""The map: each method's reward-weighted density, with the outline of the high-reward region of all methods."""

from pathlib import Path
from typing import Any

import numpy as np

from drift.evals.exploration.analyse import Exploration
from drift.evals.exploration.regions import GRID, OUTLINED_TOP_PERCENT, map_densities, top_region
from drift.records import Counts

STYLE: Any = {"svg.fonttype": "none", "font.size": 9}


def draw_map(path: Path, exploration: Exploration) -> Counts:
    """One panel per method on the first seed's map. SVG or PNG, by the file's ending."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points, names = exploration.maps[0], list(exploration.results)
    densities = map_densities(points, exploration.weights)(np.ones(points.shape[1]))
    region = top_region(densities, OUTLINED_TOP_PERCENT).reshape(GRID, GRID).T
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, len(names), figsize=(3.4 * len(names), 3.6), squeeze=False)
        for m, (name, axis) in enumerate(zip(names, axes[0], strict=True)):
            axis.imshow(densities[m].reshape(GRID, GRID).T, origin="lower", cmap="viridis", vmax=densities.max())
            axis.contour(region, levels=[0.5], colors="white", linewidths=0.8)
            share = next(s for s in exploration.results[name].map if s.top_percent == OUTLINED_TOP_PERCENT)
            axis.set_title(f"{name}\nmass {share.mass.value:.2f} [{share.mass.low:.2f}, {share.mass.high:.2f}]")
            axis.set_axis_off()
        figure.suptitle(
            f"reward-weighted density; outline: top {OUTLINED_TOP_PERCENT} % of all methods", y=0.02, va="bottom"
        )
        figure.savefig(path, bbox_inches="tight")
        pyplot.close(figure)
    return {"panels": len(names)}
