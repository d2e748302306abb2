"""The readout as one HTML page, as text for the terminal, and as STORE/live.json, which the report of a run shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from pydantic import ValidationError

from drift.disk import atomic_write
from drift.errors import DataError, first_problem
from drift.feedback.label import check_writable
from drift.live.results import ModelComparison, ModelReadout, PartRate, Readout
from drift.report.figures import ChartPoint, Series, days_chart
from drift.report.words import fill
from drift.statistics import Share

PAGE, RESULT = "live.html", "live.json"
MOST_MODELS = 4
"""Models in one chart: it has as many colours."""
KINDS = 8


@dataclass(frozen=True, slots=True)
class LiveCharts:
    """Inline SVG; None where there are no days. `over_time`: in the order of the comparisons."""

    days: Markup | None
    over_time: tuple[Markup | None, ...]


def write_live(readout: Readout, store: Path, out: Path | None) -> Path:
    """Write the page to `out` (default STORE/live.html) and the readout to STORE/live.json. Returns the page's path.

    Raises DataError if `out` cannot be written, PrerequisiteError without matplotlib.
    """
    target = out or store / PAGE
    check_writable("--out", target)
    atomic_write(
        target, fill("live.html.jinja", {"percent": percent, "points": points}, **page_values(readout)).encode()
    )
    atomic_write(store / RESULT, readout.model_dump_json(indent=2).encode() + b"\n")
    return target


def read_result(store: Path) -> Readout | None:
    """What the latest `drift live` on this store found; None if there was none."""
    file = store / RESULT
    if not file.is_file():
        return None
    try:
        return Readout.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{file}: invalid readout: {first_problem(error)}. Run `drift live --store {store}` again."
        ) from None


def page_values(readout: Readout) -> dict[str, object]:
    """What the templates live.html.jinja and live_section.html.jinja need."""
    return {
        "readout": readout,
        "live_charts": draw(readout),
        "live_kinds": _kinds(readout.models),
        "live_parts": [(title, _names(readout.models, part), part) for title, part in PARTS],
    }


PARTS = (("first and later replies", "turns"), ("language", "languages"))


def draw(readout: Readout) -> LiveCharts:
    shown = [model for model in readout.models if model.days][:MOST_MODELS]
    days = sorted({day.name for model in shown for day in model.days})
    lines = [Series(model.name, tuple(_on_day(model, day) for day in days)) for model in shown]
    return LiveCharts(
        days_chart("Dissatisfied users by day", days, lines, "percent of judged replies") if days else None,
        tuple(_over_time(comparison) for comparison in readout.comparisons),
    )


def _on_day(model: ModelReadout, day: str) -> ChartPoint | None:
    found = next((part for part in model.days if part.name == day), None)
    return found and _point(found.rate)


def _over_time(comparison: ModelComparison) -> Markup | None:
    if not comparison.over_time:
        return None
    line = Series("difference", tuple(_point(moment.difference) for moment in comparison.over_time))
    title = f"{comparison.model} minus {comparison.against}, after each day"
    return days_chart(title, [moment.day for moment in comparison.over_time], [line], "percentage points")


def _point(share: Share) -> ChartPoint:
    return ChartPoint(100 * share.value, 100 * share.low, 100 * share.high)


def _kinds(models: Sequence[ModelReadout]) -> list[str]:
    """The most frequent kinds of complaint over all models."""
    counts: dict[str, float] = {}
    for model in models:
        for kind, share in model.kinds.items():
            counts[kind] = counts.get(kind, 0.0) + share * model.judged
    return sorted(counts, key=lambda kind: (-counts[kind], kind))[:KINDS]


def _names(models: Sequence[ModelReadout], part: str) -> list[str]:
    """The most frequent names of a part over all models."""
    counts: dict[str, int] = {}
    for model in models:
        parts: tuple[PartRate, ...] = getattr(model, part)
        for one in parts:
            counts[one.name] = counts.get(one.name, 0) + one.judged
    return sorted(counts, key=lambda name: (-counts[name], name))[:KINDS]


def as_text(readout: Readout) -> Iterator[str]:
    """The readout in lines for a terminal: the models, the comparisons, and what to know about them."""
    for model in readout.models:
        share = model.rate or model.labelled
        days = f", {model.first_day} to {model.last_day}" if model.first_day else ""
        kind = "dissatisfied" if model.rate else "labelled DSAT"
        size = f"{model.judged} judged of {model.replies} replies, {model.users} users{days}"
        yield f"{model.name}: {kind} {percent(share)} ({size})"
    for comparison in readout.comparisons:
        yield f"{comparison.words} ({_basis(comparison)})"
        yield from (f"  {caveat}" for caveat in comparison.caveats)
    if errors := readout.errors:
        yield (
            f"corrected by {errors.audited} audited turns ({errors.source}): the labeller finds "
            f"{percent(errors.sensitivity)} of the dissatisfied and leaves {percent(errors.specificity)} of the "
            "others alone"
        )
    for name, count in readout.left_out.items():
        yield f"left out: {count} {name.replace('_', ' ')}"
    yield from (f"note: {note}" for note in readout.notes)


def _basis(comparison: ModelComparison) -> str:
    before, after = comparison.judged
    left_out = sum(comparison.left_out)
    rest = f"; {left_out} replies of other days left out" if left_out else ""
    return f"{after} against {before} judged replies, {comparison.days} days{rest}"


def percent(share: Share | None) -> str:
    if share is None:
        return "unknown"
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def points(share: Share) -> str:
    """A difference of two shares in percentage points, with signs."""
    value, low, high = (f"{100 * part:+.1f}" for part in (share.value, share.low, share.high))
    return f"{value} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")
