"""What `drift live` found: STORE/live.json, and what the page and the report of a run show."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from drift.errors import DataError, first_problem
from drift.live.correction import LabellerErrors
from drift.statistics import Share

RESULT = "live.json"
ComparisonVerdict = Literal["better", "worse", "unclear"]
ComparisonKind = Literal["same period", "periods"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartRate(_Result):
    """Judged replies of one day, language or place in the conversation. `rate`: of dissatisfied users; for one look."""

    name: str
    judged: int
    dsat: int
    rate: Share


class ModelReadout(_Result):
    """A deployed model. `judged`: replies after which the user went on, and that have a label; `dsat`: of these, those
    labelled DSAT. `labelled`: their share; `rate`: the same corrected for the labeller's errors (None without an
    audit); both hold at every look. `kinds`: of complaint, each with its share of the judged replies."""

    name: str
    first_day: str | None
    last_day: str | None
    conversations: int
    users: int
    replies: int
    judged: int
    dsat: int
    abstained: int
    unlabelled: int
    without_time: int
    rated_only: dict[str, int]
    labelled: Share | None
    rate: Share | None
    kinds: dict[str, float]
    days: tuple[PartRate, ...]
    languages: tuple[PartRate, ...]
    turns: tuple[PartRate, ...]


class Moment(_Result):
    """What the comparison said at the end of a day."""

    day: str
    judged: int
    difference: Share


class ModelComparison(_Result):
    """The rate of `model` minus that of `against`, the earlier one. `difference`: corrected if the labeller's errors
    are known; `labelled`: as the labels say. `judged`: replies of `against` and of `model` that count; `left_out`:
    those on days on which the other one did not answer. `own_errors`: each model is corrected by the audit of its own
    replies. `over_time`: the same at the end of each day. `confidence`: of the intervals; those of all comparisons with
    models that began on one day hold together with 95 %."""

    model: str
    against: str
    kind: ComparisonKind
    judged: tuple[int, int]
    left_out: tuple[int, int]
    days: int
    labelled: Share
    difference: Share
    relative: float | None
    verdict: ComparisonVerdict
    words: str
    caveats: tuple[str, ...]
    own_errors: bool
    over_time: tuple[Moment, ...]
    confidence: float = 0.95


class Readout(_Result):
    """`labellers`: judged replies by who labelled them; `left_out`: what could not be counted, by reason; `notes`: what
    a reader must know, a sentence each. `reference`: the model that all are compared with, if the user named one."""

    store: str
    by: str
    models: tuple[ModelReadout, ...]
    comparisons: tuple[ModelComparison, ...]
    errors: LabellerErrors | None
    labellers: dict[str, int]
    left_out: dict[str, int]
    notes: tuple[str, ...]
    reference: str | None = None

    @property
    def is_worse(self) -> bool:
        """Are users surely more dissatisfied with a model than with one that did not begin after it? What an older
        model does worse than its successor is no reason for an alert, and neither is what the reference does worse.

        Of two models that began on one day, the one that ended earlier is the older one. If they also ended on one day,
        or if their age is not known, either may be the worse one: which of them a comparison names first says nothing.
        """
        began = {model.name: (model.first_day, model.last_day) for model in self.models if model.first_day}

        def is_older(model: str, against: str) -> bool:
            return model in began and against in began and began[model] < began[against]

        def alerts(each: ModelComparison) -> bool:
            worse, other = (each.model, each.against) if each.verdict == "worse" else (each.against, each.model)
            return each.verdict != "unclear" and worse != self.reference and not is_older(worse, other)

        return any(map(alerts, self.comparisons))


def read_result(store: Path) -> Readout | None:
    """What the latest `drift live` on this store found; None if there was none."""
    file = store / RESULT
    if not file.is_file():
        return None
    try:
        return Readout.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{file}: invalid readout: {first_problem(error)}. Run `drift live --store {store}` again."
        ) from None
