"""The readout as one HTML page, as text for the terminal, and as STORE/live.json, which the report of a run shows."""

from collections.abc import Iterator
from pathlib import Path

from drift.disk import atomic_write
from drift.feedback.label import check_writable
from drift.live.results import RESULT, ModelComparison, Readout
from drift.report.live import LIVE_FILTERS, live_values, percent
from drift.report.words import fill

PAGE = "live.html"


def write_live(readout: Readout, store: Path, out: Path | None) -> Path:
    """Write the page to `out` (default STORE/live.html) and the readout to STORE/live.json. Returns the page's path.

    Raises DataError if `out` cannot be written, PrerequisiteError without matplotlib.
    """
    target = out or store / PAGE
    check_writable("--out", target)
    atomic_write(target, fill("live.html.jinja", LIVE_FILTERS, **live_values(readout)).encode())
    atomic_write(store / RESULT, readout.model_dump_json(indent=2).encode() + b"\n")
    return target


def as_text(readout: Readout) -> Iterator[str]:
    """The readout in lines for a terminal: the models, the comparisons, and what to know about them."""
    for model in readout.models:
        share = model.rate or model.labelled
        days = f", {model.first_day} to {model.last_day}" if model.first_day else ""
        kind = "dissatisfied" if model.rate else "labelled DSAT"
        users = f"{model.users} user{'s' * (model.users != 1)}"
        size = f"{model.judged} judged of {model.replies} replies, {users}{days}"
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
