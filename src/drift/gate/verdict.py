"""From measured changes to one verdict, and how its error rates are held over all guards and all looks.

A gate makes two kinds of errors, each at most ERROR_RATE, over all guards and all looks together:

- It passes although one guard's loss is above its margin (or the target is no gain). To pass, EVERY guard must pass,
  so each may be tested at the full rate (an intersection-union test, Berger 1982): no correction.
- It fails although no loss is above its margin. ONE failing guard is enough, so each is tested at the rate divided by
  the number of guards (Bonferroni).

Whoever adds items after an undecided verdict looks again, and a second look is a second chance for an error. So the
rate is spent over the looks: most of it on the first, half of the rest on each further one.
"""

from collections.abc import Mapping, Sequence

from drift.gate.paired import Change, GateVerdict, Levels, further_units, rate_change, verdict_on
from drift.gate.results import GuardKind, GuardResult, PairCounts

ERROR_RATE = 0.025
FIRST_LOOK = 0.8
"""Share of the error rate that the first look spends."""


def levels_of(look: int, tests: int) -> Levels:
    """`look`: 1 for the first. `tests`: guards and target together. The rates of all looks sum up to ERROR_RATE."""
    share = FIRST_LOOK if look == 1 else (1 - FIRST_LOOK) / 2 ** (look - 1)
    return Levels(ERROR_RATE * share, ERROR_RATE * share / tests)


def is_blind(right: int, items: int, margin: float, failing: float, effect: float = 1.0) -> bool:
    """OLD has so few right that the guard would not fail even if NEW had none right: it cannot see a loss. `effect`: of
    these losses, as in `rate_change`."""
    worst = rate_change(right, 0, items, Levels(failing, failing), effect)
    return worst.fail_high >= -margin


def overall(results: Sequence[GuardResult]) -> GateVerdict:
    """Fail if one fails, pass if all pass; a guard that is blind or undecided decides nothing."""
    verdicts = {result.verdict for result in results}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "undecided"


def rate_result(
    name: str, counts: PairCounts, margin: float, look: int, tests: int, effect: float = 1.0, worst_effect: float = 1.0
) -> GuardResult:
    """A guard whose answers are right or not; `effect` as in `rate_change`, `worst_effect`: if NEW had none right.
    Raises ValueError for no items."""
    levels = levels_of(look, tests)
    items = counts.items
    change = rate_change(counts.lost, counts.gained, items, levels, effect)
    right = counts.both + counts.lost
    verdict = verdict_on(change, margin, both_sides=False)
    if verdict != "fail" and is_blind(right, items, margin, levels.failing, worst_effect):
        verdict = "blind"
    means = right / items, (counts.both + counts.gained) / items
    return _result(name, "rate", change, margin, verdict, means, (look, tests)).filled(counts=counts)


MOST_SKIPPED = 0.05
"""With a larger share of items that could not be compared a guard, or the target, does not pass: what is missing may be
what went wrong."""
ASKS_AGAIN = "the same command asks for them again"


def with_skipped(result: GuardResult, skipped: Mapping[str, int], remedy: str) -> GuardResult:
    """The result with the items that could not be compared, by reason. Too many of them, and it does not pass."""
    skipped = {reason: count for reason, count in skipped.items() if count}
    missing = sum(skipped.values())
    result = result.filled(skipped=skipped)
    if result.verdict != "pass" or missing <= MOST_SKIPPED * (result.items + missing):
        return result
    why = ", ".join(skipped)
    note = f"{missing} of {result.items + missing} items could not be compared ({why}); {remedy}"
    return result.filled(verdict="undecided", note=note)


Means = tuple[float | None, float | None]
"""Of OLD and NEW."""


def amount_result(
    name: str, kind: GuardKind, change: Change, margin: float, means: Means, look: int, tests: int, unit: str = "item"
) -> GuardResult:
    """A guard that measures an amount, or the target. `means`: as people read them. `unit`: what the groups of the
    change are, such as users."""
    verdict = verdict_on(change, margin, kind == "both sides")
    result = _result(name, kind, change, margin, verdict, means, (look, tests))
    if change.units is None:
        return result
    further = result.further_items
    items = None if further is None else round(further * change.items / change.units)
    return result.filled(unit=unit, further_units=further, further_items=items)


def _result(
    name: str,
    kind: GuardKind,
    change: Change,
    margin: float,
    verdict: GateVerdict,
    means: Means,
    look_and_tests: tuple[int, int],
) -> GuardResult:
    look, tests = look_and_tests
    later = levels_of(look + 1, tests)
    return GuardResult(
        name=name,
        kind=kind,
        verdict=verdict,
        items=change.items,
        old=means[0],
        new=means[1],
        change=change.value,
        low=change.low,
        high=change.high,
        margin=margin,
        further_items=further_units(change, margin, kind == "both sides", later) if verdict == "undecided" else None,
    )


def amounts(result: GuardResult) -> tuple[str, str, str, str, str]:
    """For people: the name, OLD, NEW, the change with its interval, and the margin."""
    points = result.kind in ("rate", "target") or result.name == "lists"
    old, new = (
        "-" if mean is None else f"{mean:.1%}" if points else f"{mean:.3g}" for mean in (result.old, result.new)
    )
    change, low, high = (_amount(points, value) for value in (result.change, result.low, result.high))
    sign = {"target": "above 0", "both sides": "±"}.get(result.kind, "-")
    margin = sign if result.kind == "target" else f"{sign}{_amount(points, result.margin)[1:]}"
    return (
        f"target: {result.name}" if result.kind == "target" else result.name,
        old,
        new,
        f"{change} [{low}, {high}]",
        margin,
    )


def explain(result: GuardResult) -> str:
    """Why the guard is no pass, or that it is one, in one line with its numbers."""
    name, _, _, change, margin = amounts(result)
    if result.verdict == "blind" and result.counts:
        right = result.counts.both + result.counts.lost
        cause = "too few items to" if right == result.items else "this guard cannot"
        return f"{name}: OLD gets {right} of {result.items} right: {cause} see a loss"
    line = f"{name}: change {change}, margin {margin}: {result.verdict}"
    if result.note or result.verdict != "undecided":
        return f"{line}; {result.note}" if result.note else line
    if result.further_items is None:
        return f"{line}; no reasonable number of further {result.unit}s would decide"
    further = result.further_items if result.further_units is None else result.further_units
    line = f"{line}; about {further:,} more {result.unit}{'' if further == 1 else 's'} would decide"
    return line if result.further_units is None else f"{line}, if each brings as many items as now"


def _amount(points: bool, value: float) -> str:
    """Shares in points (of 100), other amounts as they are; with a sign."""
    return f"{100 * value:+.1f}" if points else f"{value:+.3f}"
