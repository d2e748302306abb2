"""The first lines of the report: is the new model better, by which measure, and how certain is that?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drift.report.contents import Contents, Phase
from drift.report.words import of_whom
from drift.statistics import Share, paired_difference, units_of

Tone = Literal["better", "worse", "unclear", "unknown"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure at two policies; `gain`: the paired difference."""

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
    explanation: str
    measured: Measured | None


def verdict_of(contents: Contents) -> ReportVerdict:
    """By true utility where it is known. Preference accuracy alone gives no verdict: it only shows that training had an
    effect."""
    if contents.temperatures and (utility := _utility_change(contents, contents.temperatures[0])):
        return _on_utility(utility)
    preference = _preference_change(contents.ends([phase for phase in contents.phases if phase.evaluation.preference]))
    if preference is None and contents.ends([phase for phase in contents.phases if phase.evaluation.replies]):
        return ReportVerdict(
            "unknown",
            "It is not known whether users prefer the new model",
            "Nobody judged the new replies, and no complaint is held out. The table of replies below shows how they "
            "changed. To learn more, run `drift eval pairwise` with a judge.",
            None,
        )
    if preference is None:
        return ReportVerdict(
            "unknown", "Nothing to compare yet", "No measure is known for two policies of this run.", None
        )
    if contents.preference_says_nothing:
        return ReportVerdict(
            "unknown",
            "It is not known whether users prefer the new model",
            "Nobody judged the new replies, and preference accuracy on held-out complaints says nothing here: "
            f"{contents.preference_says_nothing}. Run `drift eval pairwise` with a judge, or `drift review --run` with "
            "people.",
            None,
        )
    return ReportVerdict(
        "unknown",
        "It is not known whether users prefer the new model",
        "Nobody judged the new replies. The figure below only shows that training had an effect: how often the model "
        "gives a better reply a higher probability than the disliked one, on held-out complaints. To learn more, run "
        "`drift eval pairwise` with a judge, or `drift review --run` with people.",
        preference,
    )


def _on_utility(measured: Measured) -> ReportVerdict:
    basis = f"Measured by {measured.measure}, {measured.last.name} against {measured.first.name}"
    if measured.gain is None or measured.gain.low <= 0 <= measured.gain.high:
        explanation = f"{basis}: the 95 % interval of the difference includes zero."
        return ReportVerdict("unclear", "No clear change", explanation, measured)
    explanation = f"{basis}. Both answered the same requests."
    if measured.gain.low > 0:
        return ReportVerdict("better", "The new model is better", explanation, measured)
    return ReportVerdict("worse", "The new model is worse", explanation, measured)


def generations_compared(contents: Contents) -> tuple[Measured, ...]:
    """In a chain: this generation against the one before it and against the base, on the same held-out prompts, by
    true utility where it is known and by preference accuracy else."""
    if contents.generation_0 is None or not contents.phases:
        return ()
    measured: list[Measured | None] = []
    for first in (contents.phases[0], contents.generation_0):
        ends = contents.ends([first, *contents.phases[1:]])
        by_utility = _utility_between(ends, contents.temperatures[0]) if contents.temperatures else None
        measured.append(by_utility or (None if contents.preference_says_nothing else _preference_change(ends)))
    return tuple(change for change in measured if change is not None)


def _utility_change(contents: Contents, temperature: float) -> Measured | None:
    return _utility_between(
        contents.ends([phase for phase in contents.phases if phase.utility(temperature)]), temperature
    )


def _utility_between(ends: tuple[Phase, Phase] | None, temperature: float) -> Measured | None:
    if ends is None:
        return None
    before, after = (phase.utility(temperature) for phase in ends)
    if before is None or after is None:
        return None
    sampling = f"temperature {temperature:g}" if temperature else "greedy"
    return Measured(
        measure=f"the true utility of {after.prompts} held-out requests ({sampling})",
        first=ends[0],
        before=Share(before.mean, before.low, before.high),
        last=ends[1],
        after=Share(after.mean, after.low, after.high),
        gain=_paired(before.scores, after.scores),
    )


def _preference_change(ends: tuple[Phase, Phase] | None) -> Measured | None:
    if ends is None:
        return None
    before, after = (phase.evaluation.preference for phase in ends)
    if before is None or after is None:
        return None
    first, last = ({pair.prompt_id: float(pair.right) for pair in result.each} for result in (before, after))
    common = sorted(first.keys() & last.keys())
    whose = ends[1].evaluation.whose
    return Measured(
        measure=f"preference accuracy on {after.pairs} held-out complaints{of_whom(whose(last))}",
        first=ends[0],
        before=Share(before.accuracy, before.accuracy_low, before.accuracy_high),
        last=ends[1],
        after=Share(after.accuracy, after.accuracy_low, after.accuracy_high),
        gain=_paired([first[i] for i in common], [last[i] for i in common], units_of(whose(common))),
    )


def _paired(before: Sequence[float], after: Sequence[float], units: Sequence[str] | None = None) -> Share | None:
    """Over the same prompts, in the same order; those of one unit are drawn together. None where evaluation.json does
    not hold the single values."""
    if not before or len(before) != len(after):
        return None
    return paired_difference(before, after, units=units)
