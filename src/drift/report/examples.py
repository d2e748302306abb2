"""Before and after: which held-out requests are shown. A rule chooses them, so that nobody did."""

from collections.abc import Sequence
from dataclasses import dataclass

from drift.evaluation.results import SampleResult
from drift.records import ChatMessage, stable_hash

GAINED, LOST, DRAWN, ALL = 7, 7, 6, 20


@dataclass(frozen=True, slots=True)
class BeforeAndAfter:
    """What two policies answered to the same request."""

    prompt: tuple[ChatMessage, ...]
    before: SampleResult
    after: SampleResult

    @property
    def gain(self) -> float:
        return (self.after.utility or 0.0) - (self.before.utility or 0.0)


@dataclass(frozen=True, slots=True)
class Group:
    """`rule`: how these were chosen, in words."""

    rule: str
    comparisons: tuple[BeforeAndAfter, ...]


def choose(before: Sequence[SampleResult], after: Sequence[SampleResult]) -> tuple[Group, ...]:
    """Where a utility is known: those that gained most, those that lost most, and some drawn by hash. Else by hash."""
    answers = {sample.prompt: sample for sample in after}
    both = [BeforeAndAfter(s.prompt, s, answers[s.prompt]) for s in before if s.prompt in answers]
    drawn = sorted(both, key=lambda c: stable_hash(c.prompt))
    if any(c.before.utility is None or c.after.utility is None for c in both):
        return _groups((f"drawn by hash from {len(both)}", drawn[:ALL]))
    changed = sorted((c for c in drawn if c.gain), key=lambda c: -c.gain)
    gained, lost = [c for c in changed if c.gain > 0][:GAINED], [c for c in changed[::-1] if c.gain < 0][:LOST]
    rest = [c for c in drawn if c not in gained and c not in lost]
    share = f"of {len(both)} requests, {sum(c.gain > 0 for c in both)} gained and {sum(c.gain < 0 for c in both)} lost"
    return _groups(
        (f"gained most ({share})", gained),
        ("lost most", lost),
        ("drawn by hash from the others", rest[: ALL - len(gained) - len(lost)]),
    )


def _groups(*groups: tuple[str, list[BeforeAndAfter]]) -> tuple[Group, ...]:
    return tuple(Group(rule, tuple(some)) for rule, some in groups if some)
