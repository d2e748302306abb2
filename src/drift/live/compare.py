"""Two deployed models: in the same period by day, else one period after the other."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from drift.live.correction import LabellerErrors, differ, difference_of_rates, true_difference, true_rate
from drift.live.replies import JudgedReply, codes, observed
from drift.live.results import ComparisonKind, ComparisonVerdict, ModelComparison, Moment
from drift.live.sequence import Estimate, difference, rate, rates_within
from drift.statistics import Share

OVERLAP = 0.5
"""Two models ran in the same period if at least one of them gave this share of its replies on common days."""
FEWEST_USERS = 30
"""Fewer users, counted by their share of the replies, cannot speak for others."""
REACTIONS_DIFFER = 0.05


def compare(
    earlier: Sequence[JudgedReply],
    later: Sequence[JudgedReply],
    errors: LabellerErrors | None,
    by_group: Mapping[str, LabellerErrors],
    reacted: Mapping[str, float],
    alpha: float,
) -> ModelComparison:
    """Both hold a reply. `by_group`: errors on each model's own replies, where they are known; `reacted`: after which
    share of the replies of each model users went on; `alpha`: how often the interval may miss the difference."""
    names = earlier[0].group, later[0].group
    first, second, kind = _comparable(earlier, later)
    replies = sorted([*first, *second], key=lambda reply: reply.second or 0.0)
    own = {name: by_group[name] for name in names if name in by_group}
    is_own = len(own) == 2 and differ(own[names[0]], own[names[1]])
    seen = next(_differences(replies, names[1], kind, [len(replies)], alpha))
    if is_own:
        true = _own_difference(replies, kind, seen, (own[names[0]], own[names[1]]), names[1])
    else:
        true = true_difference(seen, errors)
    tone: ComparisonVerdict = "worse" if true.low > 0 else "better" if true.high < 0 else "unclear"
    base = true_rate(rate(observed(first)), own[names[0]] if is_own else errors).value
    return ModelComparison(
        model=names[1],
        against=names[0],
        kind=kind,
        judged=(len(first), len(second)),
        left_out=(len(earlier) - len(first), len(later) - len(second)),
        days=len({reply.day for reply in replies} - {None}),
        labelled=true_difference(seen, None).rounded(),
        difference=true.rounded(),
        relative=round(true.value / base, 4) if base else None,
        verdict=tone,
        words=_words(names, kind, tone, true, is_corrected=is_own or errors is not None),
        caveats=tuple(_caveats(replies, names, kind, is_own=is_own, reacted=reacted)),
        own_errors=is_own,
        over_time=() if is_own or kind == "periods" else tuple(_over_time(replies, names[1], errors, alpha)),
        confidence=1 - alpha,
    )


def ran_together(earlier: Sequence[JudgedReply], later: Sequence[JudgedReply]) -> bool:
    """Did two models answer in the same period? Without any time they may have."""
    return _comparable(earlier, later)[2] == "same period" or not any(reply.day for reply in (*earlier, *later))


def _comparable(
    earlier: Sequence[JudgedReply], later: Sequence[JudgedReply]
) -> tuple[list[JudgedReply], list[JudgedReply], ComparisonKind]:
    """The replies that are compared: those on days on which both models answered, or all of two periods."""
    common = {reply.day for reply in earlier} & {reply.day for reply in later} - {None}
    first, second = ([reply for reply in replies if reply.day in common] for replies in (earlier, later))
    if max(len(first) / len(earlier), len(second) / len(later)) >= OVERLAP:
        return first, second, "same period"
    return list(earlier), list(later), "periods"


def _differences(
    replies: list[JudgedReply], later: str, kind: ComparisonKind, ends: Sequence[int], alpha: float
) -> Iterator[Estimate]:
    """The difference as it was seen after each of these numbers of replies. Both models must have answered by then."""
    periods, labels = _periods(replies, kind), observed(replies)
    is_later = np.array([reply.group == later for reply in replies])
    for end in ends:
        seen = difference(labels.until(end), is_later[:end], periods[:end], alpha)
        assert seen is not None, "both models answered in the first of the periods"
        yield seen


def _periods(replies: list[JudgedReply], kind: ComparisonKind) -> np.ndarray:
    """int64 [n]: the day; one period for all where two periods are compared."""
    return codes(reply.day if kind == "same period" else None for reply in replies)


def _own_difference(
    replies: list[JudgedReply],
    kind: ComparisonKind,
    seen: Estimate,
    own: tuple[LabellerErrors, LabellerErrors],
    later: str,
) -> Share:
    """Each model's replies corrected by the audit of its own, within each day as the difference that was seen."""
    is_later = np.array([reply.group == later for reply in replies])
    powers = own[0].power, own[1].power
    rates = rates_within(observed(replies), is_later, _periods(replies, kind), powers)
    return difference_of_rates(rates, seen.factor, own)


def _over_time(replies: list[JudgedReply], later: str, errors: LabellerErrors | None, alpha: float) -> Iterator[Moment]:
    """`replies`: in the order of time. Each look reads what was known at the end of its day, and no more."""
    ends = {reply.day or "": place + 1 for place, reply in enumerate(replies)}
    for (day, end), seen in zip(
        ends.items(), _differences(replies, later, "same period", list(ends.values()), alpha), strict=True
    ):
        yield Moment(day=day, judged=end, difference=true_difference(seen, errors).rounded())


def _words(
    names: tuple[str, str], kind: ComparisonKind, tone: ComparisonVerdict, true: Share, *, is_corrected: bool
) -> str:
    against, model = names
    rates = "the rate of dissatisfied users" if is_corrected else "the rate of replies labelled DSAT"
    size = f"{_points(true.value)} points [{_points(true.low)}, {_points(true.high)}]"
    if kind == "periods":
        if tone == "unclear":
            return f"{rates} in the period of {model} is not clearly different from that in {against}'s period: {size}"
        change = "higher" if tone == "worse" else "lower"
        return f"{rates} is {change} in the period of {model} than in that of {against}: {size}"
    if tone == "unclear":
        return f"it is not known whether users are more or less dissatisfied with {model} than with {against}: {size}"
    more = "more" if tone == "worse" else "less"
    return f"users are {more} dissatisfied with {model} than with {against}: {rates} differs by {size}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _caveats(
    replies: list[JudgedReply],
    names: tuple[str, str],
    kind: ComparisonKind,
    *,
    is_own: bool,
    reacted: Mapping[str, float],
) -> Iterator[str]:
    if kind == "periods":
        has_times = any(reply.day for reply in replies)
        why = "did not run on the same days" if has_times else "have no times in the logs"
        yield (
            f"a comparison of periods: {names[0]} and {names[1]} {why}. Other users, other questions or another season "
            "may be the cause. To know, let both answer on the same days."
        )
    if is_own:
        yield "the audit says that the labeller errs differently on the two models: each is corrected by its own."
    sizes = np.bincount(codes(reply.user for reply in replies))
    effective = float(sizes.sum() ** 2 / (sizes @ sizes))
    if effective < FEWEST_USERS:
        yield (
            f"few users: the replies are spread as over {effective:.0f} equally busy ones, and {FEWEST_USERS} are "
            "needed to speak for others."
        )
    shares = [reacted[name] for name in names]
    if abs(shares[0] - shares[1]) > REACTIONS_DIFFER:
        yield (
            f"users went on after {shares[0]:.0%} of the replies of {names[0]} and {shares[1]:.0%} of {names[1]}. "
            "Those who leave say nothing, so one of the two rates hides more than the other."
        )
