"""The live readout on a page: its charts and tables, for the page of `drift live` and for the report of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from drift.live.results import ModelComparison, ModelReadout, PartRate, Readout
from drift.report.figures import ChartPoint, Series, days_chart
from drift.statistics import Share

MOST_MODELS = 4
"""Models in one chart: it has as many colours."""
KINDS = 8
"""Kinds of complaint, languages: those that are shown, the most frequent ones."""
PARTS = (("first and later replies", "turns"), ("language", "languages"))


@dataclass(frozen=True, slots=True)
class LiveCharts:
    """Inline SVG; None where there are no days. `shown`: models in the chart by day; `over_time`: in the order of the
    comparisons."""

    shown: int
    days: Markup | None
    over_time: tuple[Markup | None, ...]


def live_values(readout: Readout) -> dict[str, object]:
    """The arguments of the macro of live_section.html.jinja."""
    return {
        "readout": readout,
        "charts": draw(readout),
        "kinds": _kinds(readout.models),
        "parts": [
            (title, names, part) for title, part in PARTS if (names := _names(readout.models, part)) != ["unknown"]
        ],
    }


def draw(readout: Readout) -> LiveCharts:
    shown = [model for model in readout.models if model.days][-MOST_MODELS:]
    days = sorted({day.name for model in shown for day in model.days})
    lines = [Series(model.name, tuple(_on_day(model, day) for day in days)) for model in shown]
    return LiveCharts(
        len(shown),
        days_chart("Dissatisfied users by day", days, lines, "percent of judged replies") if days else None,
        tuple(_over_time(comparison) for comparison in readout.comparisons),
    )


def _on_day(model: ModelReadout, day: str) -> ChartPoint | None:
    part = next((part for part in model.days if part.name == day), None)
    return part and _point(part.rate)


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


def percent(share: Share | None) -> str:
    if share is None:
        return "unknown"
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def points(share: Share) -> str:
    """A difference of two shares in percentage points, with signs."""
    value, low, high = (f"{100 * part:+.1f}" for part in (share.value, share.low, share.high))
    return f"{value} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")


LIVE_FILTERS = {"percent": percent, "points": points}
"""For the templates, beside those of words.py."""
