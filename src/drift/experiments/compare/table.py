"""A comparison for people: results.md (tables of arms, iterations and differences) and the figure of its curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drift.report.comparison.results import ArmResult, ComparisonResults, Three


def markdown(comparison: "ComparisonResults") -> str:
    """The text of results.md."""
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
        f"{comparison.prompts} held-out prompts. One run's utility at its warm start has a standard error of "
        f"{comparison.noise:.3f} over the prompts. Brackets: 95 % bootstrap intervals over prompts and runs. "
        "Gain: utility minus that of the warm start.",
        "",
        _row(head),
        _row(["---"] * len(head)),
        *(_row(_arm_cells(name, result, temperatures)) for name, result in arms.items()),
    ]
    lines += ["", _row(["iteration (temperature 1)", *arms]), _row(["---"] * (len(arms) + 1))]
    lines += [_row(["warm start", *(f"{result.warm_start[0]:.3f}" for result in arms.values())])]
    for k in range(max(len(result.utility) for result in arms.values())):
        cells = [_interval(result.utility[k]) if k < len(result.utility) else "" for result in arms.values()]
        lines.append(_row([str(k + 1), *cells]))
    if comparison.differences:
        lines += ["", _row(["difference", *map(_named, temperatures)]), _row(["---"] * (len(temperatures) + 1))]
        for difference in comparison.differences:
            values = [_signed(difference.at[t]) if t in difference.at else "" for t in temperatures]
            lines.append(_row([f"{difference.first} - {difference.second}", *values]))
    return "\n".join(lines) + "\n"


def _arm_cells(name: str, result: "ArmResult", temperatures: Sequence[str]) -> list[str]:
    spread = _standard_deviation(result.final_by_run)
    regret = "" if result.regret is None else f"{result.regret[0]:.3f}, {result.regret[1]:.3f}"
    return [
        name,
        f"{result.learning_rate:g}",
        *(_signed(result.gains[t]) for t in temperatures),
        *(_interval(result.at[t][-1]) for t in temperatures),
        f"{spread:.3f}",
        _first_and_last(result) if result.p_imp else "no pairs",
        f"{min(result.pairs)}-{max(result.pairs)}, {min(result.updates)}-{max(result.updates)}",
        regret,
    ]


def _first_and_last(result: "ArmResult") -> str:
    return f"{result.p_imp[0]:.2f} / {result.worse[0]:.2f}, {result.p_imp[-1]:.2f} / {result.worse[-1]:.2f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _named(temperature: str) -> str:
    return "greedy" if float(temperature) == 0 else f"T {temperature}"


def _interval(share: "Three") -> str:
    mean, low, high = share
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _signed(share: "Three") -> str:
    mean, low, high = share
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _standard_deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return (sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)) ** 0.5


def draw_curves(out: Path, curves: Mapping[str, Sequence[tuple[float, float, float]]], prompts: int, runs: int) -> None:
    """Draw one curve per arm as SVG. Each point is (mean, low, high); the first is the warm start."""
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
