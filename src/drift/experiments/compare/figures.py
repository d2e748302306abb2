"""The plot of a comparison: utility by iteration, one line per arm, with its interval as a band."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def draw_curves(out: Path, curves: Mapping[str, Sequence[tuple[float, float, float]]], prompts: int, runs: int) -> None:
    """Write an SVG. Each curve starts with the warm start; its points are mean, low, high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(curves.items()):
        steps = range(len(points))
        style = ("-", "--", ":")[number // 10 % 3]
        (line,) = axes.plot(steps, [p[0] for p in points], style, marker="o", markersize=3, label=name)
        lows, highs = [p[1] for p in points], [p[2] for p in points]
        axes.fill_between(steps, lows, highs, color=line.get_color(), alpha=0.08, linewidth=0)
    axes.set_xlabel("iteration (0: warm start)")
    axes.set_ylabel("true utility, temperature 1")
    axes.set_title(f"mean of {runs} runs on {prompts} held-out prompts, 95 % intervals", fontsize=9)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(out, metadata={"Date": None})
