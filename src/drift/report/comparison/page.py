"""From the folder of a comparison to one HTML file: the significant differences, then all arms side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from drift.report.comparison.arms import ArmFacts, read_facts
from drift.report.comparison.results import ArmResult, ComparisonResults, Difference, Three, read_comparison
from drift.report.figures import ChartPoint, arm_chart, forest_chart
from drift.report.words import fill
from drift.rundir import atomic_write


@dataclass(frozen=True, slots=True)
class SignificanceVerdict:
    """A difference and what its interval shows. `tone`: of the first arm against the second, or of a gain against 0."""

    tone: Literal["better", "worse", "unclear"]
    difference: Three


@dataclass(frozen=True, slots=True)
class ArmCard:
    """One arm on the page. `beside`: the arm that its chart shows for comparison."""

    name: str
    result: ArmResult
    facts: ArmFacts
    gain: SignificanceVerdict
    chart: Markup
    beside: str

    @property
    def best_iteration(self) -> int:
        """0 is the warm start."""
        means = [self.result.warm_start[0], *(step[0] for step in self.result.utility)]
        return means.index(max(means))


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """Two arms: their difference at every temperature, and what it shows at the hottest one."""

    difference: Difference
    significance: SignificanceVerdict


def write_comparison_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a finished comparison to `out` (default FOLDER/report.html). Returns its path.

    Raises DataError if it is not finished or a file of it is damaged, PrerequisiteError without matplotlib.
    """
    comparison = read_comparison(folder)
    facts = read_facts(folder, comparison)
    cards = [_card(name, comparison, facts.arms[name]) for name in comparison.arms]
    hottest = max(next(iter(comparison.arms.values())).at, key=float)
    pairs = [ArmDifference(d, significance(d.at[hottest])) for d in comparison.differences if hottest in d.at]
    gains = sorted(((card.name, _point(card.result.gain)) for card in cards), key=lambda row: -row[1].value)
    page = fill(
        "comparison.html.jinja",
        {},
        folder=folder,
        comparison=comparison,
        facts=facts,
        cards=cards,
        best=max(cards, key=lambda card: (card.gain.tone == "better", card.result.gain[0])),
        pairs=pairs,
        hottest=float(hottest),
        temperatures=[float(t) for t in next(iter(comparison.arms.values())).at],
        gains=forest_chart("Gain over the warm start", gains),
        differences=forest_chart("Paired differences", [_row(pair) for pair in pairs]) if pairs else None,
        own_settings=sorted({key for card in cards for key in card.facts.own}),
    )
    target = out or folder / "report.html"
    atomic_write(target, page.encode())
    return target


def significance(difference: Three) -> SignificanceVerdict:
    """Better or worse if the 95 % interval of the difference excludes zero."""
    _, low, high = difference
    return SignificanceVerdict("better" if low > 0 else "worse" if high < 0 else "unclear", difference)


def _card(name: str, comparison: ComparisonResults, facts: ArmFacts) -> ArmCard:
    """Every chart shows the first arm for comparison; the first arm's chart shows the second."""
    arms = list(comparison.arms)
    beside = arms[0] if name != arms[0] or len(arms) == 1 else arms[1]
    curves = {arm: [_point(step) for step in (r.warm_start, *r.utility)] for arm, r in comparison.arms.items()}
    ends = [end for curve in curves.values() for p in curve for end in (p.low, p.high) if end is not None]
    room = 0.04 * (max(ends) - min(ends))
    limits = (min(ends) - room, max(ends) + room)
    result = comparison.arms[name]
    chart = arm_chart(f"Utility of {name}", curves[name], curves[beside], limits)
    return ArmCard(name, result, facts, significance(result.gain), chart, beside)


def _row(pair: ArmDifference) -> tuple[str, ChartPoint]:
    return f"{pair.difference.first} − {pair.difference.second}", _point(pair.significance.difference)


def _point(share: Three) -> ChartPoint:
    return ChartPoint(*share)
