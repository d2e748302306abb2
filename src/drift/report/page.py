"""From a run folder to one HTML file. Every text from a log is escaped: logs are untrusted."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from drift.evals.exploration.regions import GRID, OUTLINED_TOP_PERCENT, map_densities, top_region
from drift.evals.exploration.results import ExplorationSummary
from drift.gate.verdict import amounts, explain
from drift.report.contents import SHOWN_STEPS, Contents, Disliked, Phase, read_contents
from drift.report.figures import ChartPoint, Series, density_chart, phases_chart, steps_chart
from drift.report.live import LIVE_FILTERS, live_values
from drift.report.verdict import generations_compared, verdict_of
from drift.report.words import fill, temperature
from drift.rundir import atomic_write, layout


@dataclass(frozen=True, slots=True)
class Charts:
    """Inline SVG; None where the run has no data."""

    utility: Markup | None
    preference: Markup | None
    margins: Markup | None
    grad_norms: Markup | None
    lengths: Markup | None
    moved: Markup | None
    lemma: Markup | None
    improvement: Markup | None
    maps: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True, slots=True)
class Complaint:
    """A user's complaint, split at the evidence. `loose`: the text does not contain it, so it is shown apart."""

    before: str
    evidence: str
    after: str
    loose: bool = False


def write_report(run_path: Path, out: Path | None = None) -> Path:
    """Write the report of a run, finished or not, to `out` (default RUN/report.html). Returns its path.

    Raises DataError if `run_path` is not a run or a file in it is damaged, PrerequisiteError without matplotlib.
    """
    target = out or run_path / layout.REPORT
    atomic_write(target, render(read_contents(run_path)).encode())
    return target


def render(contents: Contents) -> str:
    return fill(
        "report.html.jinja",
        {"complaint": mark_evidence, "amounts": amounts, "explain": explain, **LIVE_FILTERS},
        run=contents.run,
        contents=contents,
        charts=draw(contents),
        verdict=verdict_of(contents),
        compared=generations_compared(contents),
        shown_steps=SHOWN_STEPS,
        live=live_values(contents.live) if contents.live else None,
    )


def draw(contents: Contents) -> Charts:
    scored = [phase for phase in contents.phases if phase.evaluation.utility or phase.evaluation.preference]
    names = [phase.name for phase in scored]
    utility = [Series(temperature(t), tuple(_utility(phase, t) for phase in scored)) for t in contents.temperatures]
    preference = Series("accuracy", tuple(map(_preference, scored)))
    quoted = any(preference.points) and not contents.preference_says_nothing
    trained = [phase for phase in contents.trainings if phase.steps]
    margins = [[step.margin for step in phase.steps] for phase in trained]
    norms = [[step.grad_norm for step in phase.steps] for phase in trained]
    return Charts(
        utility=phases_chart("True utility", names, utility) if utility else None,
        preference=phases_chart("Preference accuracy", names, [preference]) if quoted else None,
        margins=_steps("Reward margin", trained, margins),
        grad_norms=_steps("Gradient norm", trained, norms),
        lengths=_lengths(contents.phases),
        moved=_moved(trained),
        lemma=_lemma(contents.phases),
        improvement=_improvement(contents),
        maps=_maps(contents.exploration),
    )


def mark_evidence(disliked: Disliked) -> Complaint:
    """Find the evidence in the complaint, ignoring case and white space."""
    text = disliked.item.complaint.content if disliked.item.complaint else ""
    evidence = (disliked.label.evidence if disliked.label else None) or ""
    words = [re.escape(word) for word in evidence.split()]
    match = re.search(r"\s+".join(words), text, re.IGNORECASE) if words else None
    if match is None:
        return Complaint(text, evidence, "", loose=True)
    return Complaint(text[: match.start()], match[0], text[match.end() :])


def _utility(phase: Phase, temperature: float) -> ChartPoint | None:
    result = phase.utility(temperature)
    return ChartPoint(result.mean, result.low, result.high) if result else None


def _preference(phase: Phase) -> ChartPoint | None:
    result = phase.evaluation.preference
    return ChartPoint(result.accuracy, result.accuracy_low, result.accuracy_high) if result else None


def _steps(title: str, phases: list[Phase], values: list[list[float | None]]) -> Markup | None:
    logged = [
        (phase.name, row)
        for phase, row in zip(phases, values, strict=True)
        if any(value is not None for value in row)  # SFT has no margin
    ]
    return steps_chart(title, [name for name, _ in logged], [row for _, row in logged]) if logged else None


def _lengths(phases: tuple[Phase, ...]) -> Markup | None:
    paired = [(phase.name, phase.lengths) for phase in phases if phase.lengths]
    if not paired:
        return None
    chosen = Series("chosen", tuple(ChartPoint(lengths.chosen) for _, lengths in paired))
    rejected = Series("rejected", tuple(ChartPoint(lengths.rejected) for _, lengths in paired))
    return phases_chart("Median characters of a reply", [name for name, _ in paired], [chosen, rejected])


def _moved(phases: list[Phase]) -> Markup | None:
    """Change of both replies' log p since the warm start, at the last step of each phase."""
    logged = [(phase.name, phase.steps[-1]) for phase in phases if phase.steps[-1].chosen_moved is not None]
    if not logged:
        return None
    chosen = Series("chosen", tuple(_point(step.chosen_moved) for _, step in logged))
    rejected = Series("rejected", tuple(_point(step.rejected_moved) for _, step in logged))
    return phases_chart("Change of log p since the warm start, nats", [name for name, _ in logged], [chosen, rejected])


def _lemma(phases: tuple[Phase, ...]) -> Markup | None:
    logged = [
        (f"{phase.name.removeprefix('iteration ')} {when}", row)
        for phase in phases
        for when, row in zip(("start", "end"), phase.lemma, strict=False)
    ]
    if not logged:
        return None
    norm = Series("gradient norm of a pair", tuple(_point(row.lemma_norm) for _, row in logged))
    bound = Series("Lemma 1's bound", tuple(_point(row.lemma_bound) for _, row in logged))
    return phases_chart("Gradient norm against its bound", [name for name, _ in logged], [norm, bound])


def _point(value: float | None) -> ChartPoint | None:
    return None if value is None else ChartPoint(value)


def _improvement(contents: Contents) -> Markup | None:
    judged = [row for row in contents.assumptions if row.p_imp is not None]
    if len(judged) < 2:
        return None
    better = Series("chosen is better", tuple(ChartPoint(row.p_imp or 0.0) for row in judged))
    worse = Series("chosen is worse", tuple(ChartPoint(row.worse or 0.0) for row in judged))
    return phases_chart("Chosen against rejected", [f"iteration {row.iteration}" for row in judged], [better, worse])


def _maps(exploration: ExplorationSummary | None) -> tuple[tuple[str, Markup], ...]:
    """One panel per policy of the exploration, all on the same map and scale."""
    if exploration is None or not exploration.points:
        return ()
    places = np.array(list(exploration.points.values()))[:, :, None]  # [M, replies, 1, 3]: one sample per "prompt"
    densities = map_densities(places[..., :2], places[..., 2])(np.ones(places.shape[1]))
    region = top_region(densities, OUTLINED_TOP_PERCENT).reshape(GRID, GRID)
    return tuple(
        (name, density_chart(f"Map of {name}", density.reshape(GRID, GRID), region, float(densities.max())))
        for name, density in zip(exploration.points, densities, strict=True)
    )
