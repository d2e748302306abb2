"""Results of `drift label --report`, for the page and for --json."""

from dataclasses import dataclass

from drift.feedback.trust.agreement import Agreement
from drift.records import Verdict
from drift.statistics import Share


@dataclass(frozen=True, slots=True)
class JudgedExample:
    """A judged turn: its text is `before`, `evidence`, `after`; `reply`: the end of the judged reply."""

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
    """`compared`: by the source of the truth ("reviews", "gold"); `left_out`: rows not compared, by reason."""

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
