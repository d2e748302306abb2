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
    hottest = max(temperatures, key=float)
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
    lines += _against_base(arms)
    lines += ["", _row([f"iteration ({_named(hottest)})", *arms]), _row(["---"] * (len(arms) + 1))]
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


def _against_base(arms: Mapping[str, "ArmResult"]) -> list[str]:
    """The tables of what each arm gained over the base, what it cost, and what its truth is made of."""
    if not all(result.over_base for result in arms.values()):  # results of an earlier version
        return []
    temperatures = list(next(iter(arms.values())).over_base)
    head = ["arm", *(f"over the base, {_named(t)}" for t in temperatures)]
    head += [f"its warm start over the base, {_named(t)}" for t in temperatures]
    head += [
        "coverage by iteration",
        "sampled tokens",
        "forwards without, with a gradient",
        "updates",
        "finished",
        "median tokens",
        "repetition",
        "distance from the base",
        *(f"other kinds of requests over the base, {_named(t)}" for t in _other_kinds(arms)),
    ]
    lines = [
        "",
        "Base before, last iteration after the arrow. Coverage: share of prompts with a fresh reply that is truly "
        "better than the disliked one, the ceiling of any ranking. Sampled tokens, forwards (replies read by the "
        "policy or a scorer) and updates are of a whole run, without its warm start and its evaluations. Distance: how "
        "much likelier the last policy finds its own held-out replies than the base does, nats per token, with an "
        "interval over replies alone.",
    ]
    lines += ["", _row(head), _row(["---"] * len(head))]
    for name, result in arms.items():
        cells = [name, *(_signed(result.over_base[t]) for t in temperatures)]
        cells += [_signed(result.warm_start_over_base[t]) for t in temperatures]
        cells += [", ".join(f"{share:.2f}" for share in result.coverage), f"{result.sampled_tokens:,.0f}"]
        cells += [", ".join(f"{count:,.0f}" for count in result.forwards or ()), f"{sum(result.updates):,}"]
        cells += [_changed(result.finished, "{:.2f}"), _changed(result.median_tokens, "{:g}")]
        cells += [_changed(result.repetition, "{:.3f}"), _interval(result.distance) if result.distance else ""]
        lines.append(_row([*cells, *(_signed(result.other_kinds_over_base[t]) for t in _other_kinds(arms))]))
    lines += _parts("what the truth is made of", {name: result.parts for name, result in arms.items()})
    title = "of other kinds of requests, which no user in the logs makes"
    return lines + _parts(title, {name: result.other_kinds for name, result in arms.items()})


def _parts(title: str, arms: Mapping[str, Mapping[str, tuple[float, float]]]) -> list[str]:
    """A table with a row for each part: the base's share, then each arm's after its last iteration."""
    parts = next(iter(arms.values()))
    if not parts:
        return []
    lines = ["", _row([title, "base", *arms]), _row(["---"] * (len(arms) + 2))]
    for part, (base, _) in parts.items():
        after = [f"{of_arm[part][1]:.3f}" if part in of_arm else "" for of_arm in arms.values()]
        lines.append(_row([part, f"{base:.3f}", *after]))
    return lines


def _other_kinds(arms: Mapping[str, "ArmResult"]) -> list[str]:
    """The temperatures at which every arm was measured on other kinds of requests."""
    return [t for t in next(iter(arms.values())).over_base if all(t in a.other_kinds_over_base for a in arms.values())]


def _changed(values: tuple[float, float] | None, form: str) -> str:
    return " → ".join(form.format(value) for value in values) if values else ""


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


def draw_curves(
    out: Path, curves: Mapping[str, Sequence[tuple[float, float, float]]], prompts: int, runs: int, temperature: str
) -> None:
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
    axes.set_ylabel(f"true utility, {temperature}")
    axes.set_title(f"mean of {runs} runs on {prompts} held-out prompts, 95 % intervals", fontsize=9)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(out, metadata={"Date": None})
