"""A comparison as Markdown: one table of arms, one of differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drift.report.comparison.results import ArmResult, ComparisonResults, Three


def markdown(comparison: "ComparisonResults") -> str:
    arms = comparison.arms
    temperatures = list(next(iter(arms.values())).at)
    head = [
        "arm",
        "learning rate",
        *(f"gain, {_named(t)}" for t in temperatures),
        *(f"utility, {_named(t)}" for t in temperatures),
        "runs' s.d.",
        "p_imp / worse, first and last",
        "pairs, updates",
        "stop rule's regret: mean, max",
    ]
    lines = [
        f"# {comparison.name}",
        "",
        f"World {', '.join(comparison.world)}; {len(comparison.runs)} runs ({', '.join(comparison.runs)}), "
        f"{comparison.prompts} held-out prompts; standard error over them of one run's utility at its warm "
        f"start {comparison.noise:.3f}. Brackets: 95 % bootstrap intervals over prompts and runs. "
        "Gain: over the warm start.",
        "",
        _row(head),
        _row(["---"] * len(head)),
        *(_row(_cells(name, result, temperatures)) for name, result in arms.items()),
    ]
    lines += ["", "| iteration (temperature 1) | " + " | ".join(arms) + " |", _row(["---"] * (len(arms) + 1))]
    lines += [_row(["warm start", *(f"{result.warm_start[0]:.3f}" for result in arms.values())])]
    for k in range(max(len(result.utility) for result in arms.values())):
        lines.append(_row([str(k + 1), *(_at(result, k) for result in arms.values())]))
    if comparison.differences:
        lines += ["", _row(["difference", *map(_named, temperatures)]), _row(["---"] * (len(temperatures) + 1))]
        for found in comparison.differences:
            shown = [_signed(found.at[t]) if t in found.at else "" for t in temperatures]
            lines.append(_row([f"{found.first} - {found.second}", *shown]))
    return "\n".join(lines) + "\n"


def _cells(name: str, result: "ArmResult", temperatures: Sequence[str]) -> list[str]:
    spread = _deviation(result.final_by_run)
    regret = "" if result.regret is None else f"{result.regret[0]:.3f}, {result.regret[1]:.3f}"
    return [
        name,
        f"{result.learning_rate:g}",
        *(_signed(result.gains[t]) for t in temperatures),
        *(_interval(result.at[t][-1]) for t in temperatures),
        f"{spread:.3f}",
        f"{result.p_imp[0]:.2f} / {result.worse[0]:.2f}, {result.p_imp[-1]:.2f} / {result.worse[-1]:.2f}",
        f"{min(result.pairs)}-{max(result.pairs)}, {min(result.updates)}-{max(result.updates)}",
        regret,
    ]


def _at(result: "ArmResult", k: int) -> str:
    return _interval(result.utility[k]) if k < len(result.utility) else ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _named(temperature: str) -> str:
    return "greedy" if float(temperature) == 0 else f"T {temperature}"


def _interval(found: "Three") -> str:
    return f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]"


def _signed(found: "Three") -> str:
    return f"{found[0]:+.3f} [{found[1]:+.3f}, {found[2]:+.3f}]"


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)) ** 0.5


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
