"""Before and after: which held-out requests the report shows. A fixed rule selects them, not a person."""

from collections.abc import Sequence
from dataclasses import dataclass

from drift.evaluation.results import SampleResult
from drift.records import ChatMessage, stable_hash

MOST_GAINED, MOST_LOST, MOST_SHOWN = 7, 7, 20


@dataclass(frozen=True, slots=True)
class BeforeAndAfter:
    """The answers of two policies to the same request."""

    prompt: tuple[ChatMessage, ...]
    before: SampleResult
    after: SampleResult

    @property
    def gain(self) -> float:
        return (self.after.utility or 0.0) - (self.before.utility or 0.0)


@dataclass(frozen=True, slots=True)
class Group:
    """`rule`: how these were selected, for the heading."""

    rule: str
    comparisons: tuple[BeforeAndAfter, ...]


def choose(before: Sequence[SampleResult], after: Sequence[SampleResult]) -> tuple[Group, ...]:
    """With utilities: those that gained most, those that lost most, and others drawn by hash. Without: all by hash."""
    answers = {sample.prompt: sample for sample in after}
    both = [BeforeAndAfter(s.prompt, s, answers[s.prompt]) for s in before if s.prompt in answers]
    drawn = sorted(both, key=lambda c: stable_hash(c.prompt))
    if any(c.before.utility is None or c.after.utility is None for c in both):
        return _groups((f"drawn by hash from {len(both)}", drawn[:MOST_SHOWN]))
    changed = sorted((c for c in drawn if c.gain), key=lambda c: -c.gain)
    gained, lost = (
        [c for c in changed if c.gain > 0][:MOST_GAINED],
        [c for c in changed[::-1] if c.gain < 0][:MOST_LOST],
    )
    rest = [c for c in drawn if c not in gained and c not in lost]
    share = f"of {len(both)} requests, {sum(c.gain > 0 for c in both)} gained and {sum(c.gain < 0 for c in both)} lost"
    return _groups(
        (f"largest gains ({share})", gained),
        ("largest losses", lost),
        ("drawn by hash from the rest", rest[: MOST_SHOWN - len(gained) - len(lost)]),
    )


def _groups(*groups: tuple[str, list[BeforeAndAfter]]) -> tuple[Group, ...]:
    return tuple(Group(rule, tuple(comparisons)) for rule, comparisons in groups if comparisons)
