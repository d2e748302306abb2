"""What `drift label --report` found, for the page and for --json."""

from dataclasses import dataclass

from drift.feedback.trust.agreement import Agreement
from drift.records import Verdict
from drift.statistics import Share


@dataclass(frozen=True, slots=True)
class JudgedExample:
    """A judged turn: `before`, the evidence and `after` are what it says; `reply`: the end of what it is about."""

    conversation_id: str
    turn: int
    label: Verdict
    subtype: str | None
    labeller: str
    p_dsat: float | None
    reply: str
    before: str
    evidence: str
    after: str
    truth: str | None = None


@dataclass(frozen=True, slots=True)
class TrustReport:
    """`compared`: by where the truth is from ("reviews", "gold"); `left_out`: of the truth's rows, by why."""

    store: str
    labels: dict[str, int]
    subtypes: dict[str, int]
    labellers: dict[str, int]
    abstained: dict[str, int]
    compared: dict[str, Agreement]
    prevalence: dict[str, Share | None]
    left_out: dict[str, int]
    examples: tuple[JudgedExample, ...]
    mistakes: tuple[JudgedExample, ...]
