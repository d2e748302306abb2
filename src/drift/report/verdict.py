"""The first lines of the report: is the new model better, on what, and how sure is that?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drift.report.contents import Contents, Phase
from drift.statistics import Share, paired_difference

Tone = Literal["better", "worse", "unclear", "unknown"]


@dataclass(frozen=True, slots=True)
class Measured:
    """The verdict's measure at two policies; `gain`: the mean difference with its 95 % interval."""

    measure: str
    first: Phase
    before: Share
    last: Phase
    after: Share
    gain: Share | None


@dataclass(frozen=True, slots=True)
class ReportVerdict:
    tone: Tone
    title: str
    told: str
    measured: Measured | None


def verdict_of(contents: Contents) -> ReportVerdict:
    """On true utility where it is known. Preference accuracy alone is no verdict: it shows that training took hold."""
    if contents.temperatures and (found := _utility_change(contents, contents.temperatures[0])):
        return _on_utility(found)
    found = _preference_change(contents)
    if found is None:
        return ReportVerdict(
            "unknown", "Nothing to compare yet", "No measure was taken at two policies of this run.", None
        )
    return ReportVerdict(
        "unknown",
        "Whether users will like it better is not known",
        "Nobody judged the new replies. What was measured tells whether training took hold: how often the model finds "
        "a better reply likelier than the one that was disliked, on complaints it never saw. To find out more: "
        "`drift eval pairwise` with a judge, or `drift review --run` with people.",
        found,
    )


def _on_utility(found: Measured) -> ReportVerdict:
    told = f"Measured by {found.measure}, {found.last.name} against {found.first.name}"
    if found.gain is None or found.gain.low <= 0 <= found.gain.high:
        return ReportVerdict(
            "unclear", "No clear change", f"{told}: the 95 % interval of the difference holds zero.", found
        )
    if found.gain.low > 0:
        return ReportVerdict("better", "The new model is better", f"{told}, the same requests answered by both.", found)
    return ReportVerdict("worse", "The new model is worse", f"{told}, the same requests answered by both.", found)


def _utility_change(contents: Contents, temperature: float) -> Measured | None:
    measured = [phase for phase in contents.phases if phase.utility(temperature)]
    ends = contents.ends(measured)
    if ends is None:
        return None
    before, after = (phase.utility(temperature) for phase in ends)
    if before is None or after is None:
        return None
    how = f"temperature {temperature:g}" if temperature else "greedy"
    return Measured(
        f"the true utility of {after.prompts} held-out requests ({how})",
        ends[0],
        Share(before.mean, before.low, before.high),
        ends[1],
        Share(after.mean, after.low, after.high),
        _paired(before.scores, after.scores),
    )


def _preference_change(contents: Contents) -> Measured | None:
    ends = contents.ends([phase for phase in contents.phases if phase.evaluation.preference])
    if ends is None:
        return None
    before, after = (phase.evaluation.preference for phase in ends)
    if before is None or after is None:
        return None
    right = ({pair.prompt_id: float(pair.right) for pair in result.each} for result in (before, after))
    was, became = right
    common = sorted(was.keys() & became.keys())
    return Measured(
        f"preference accuracy on {after.pairs} held-out complaints",
        ends[0],
        Share(before.accuracy, before.accuracy_low, before.accuracy_high),
        ends[1],
        Share(after.accuracy, after.accuracy_low, after.accuracy_high),
        _paired([was[key] for key in common], [became[key] for key in common]),
    )


def _paired(before: Sequence[float], after: Sequence[float]) -> Share | None:
    """Mean difference over the same units, in their order; None where the single values were not kept."""
    if not before or len(before) != len(after):
        return None
    return paired_difference(before, after)
