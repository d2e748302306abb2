"""gate.json: the verdict of `drift gate`, its target and its guards. The report reads it too: no heavy imports here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from drift.errors import DataError, first_problem
from drift.gate.paired import GateVerdict

GuardKind = Literal["rate", "amount", "both sides", "target"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PairCounts(_Record):
    """Items by who has them right: both models, OLD alone (`lost`), NEW alone (`gained`), neither."""

    both: int
    lost: int
    gained: int
    neither: int

    @property
    def items(self) -> int:
        return self.both + self.lost + self.gained + self.neither


class LostItem(_Record):
    """A request that OLD answered rightly and NEW did not, for people to read. `why`: what is wrong with NEW's."""

    request: str
    old: str
    new: str
    why: str


class GuardResult(_Record):
    """One guard, or the target. `old`, `new`: the models' means; `change`: new minus old with the bounds `low`, `high`.

    `kind`: a `rate` and an `amount` must not fall by the margin, `both sides` must not rise by it either, the `target`
    must rise. `further_items`: how many more would decide; `further_units`: the users, say, that have to bring
    them, because more items of the same users decide nothing; None if each item counts for itself. `unit`: what counts
    once: an item, a user, a chat, a sample. `skipped`: items that could not be compared, by reason. `problems`:
    what is wrong with answers, counted for OLD and NEW. `note`: what a reader has to know.
    """

    name: str
    kind: GuardKind
    verdict: GateVerdict
    items: int
    old: float | None
    new: float | None
    change: float
    low: float
    high: float
    margin: float
    further_items: int | None = None
    further_units: int | None = None
    unit: str = "item"
    counts: PairCounts | None = None
    skipped: dict[str, int] = {}
    problems: dict[str, tuple[int, int]] = {}
    lost: tuple[LostItem, ...] = ()
    note: str = ""

    def filled(self, **values: Any) -> Self:
        return self.model_copy(update=values)


class GateResult(_Record):
    """`look`: how often these models have been compared on other items, or by another judge. `measured`: of each look,
    what was asked, as a hash by guard, suite and target. `confidence`: of the intervals.

    `error_rate`: of passing wrongly and of failing wrongly, each, over all guards and looks. `left_out`: guards that
    the user left out. `seen_in_training`: items that were not asked because a model was trained on their request;
    None: the models are no runs, so it is not known. `why`: one line for each part of the verdict that is not a pass.
    `policy_hash`: of the run that was tested as a whole (`RunView.policy_hash`); None: the new model is no run.
    """

    new: str
    against: str
    new_id: str
    against_id: str
    verdict: GateVerdict
    why: tuple[str, ...]
    target: GuardResult | None
    guards: tuple[GuardResult, ...]
    left_out: tuple[str, ...]
    look: int
    confidence: float
    error_rate: float
    seed: int
    items: int
    seen_in_training: int | None
    measured: tuple[dict[str, str], ...] = ()
    seconds: float = 0.0
    policy_hash: str | None = None

    @property
    def interval(self) -> str:
        """`confidence` in per cent, with all of its digits: those of later looks are near 100."""
        return f"{100 * self.confidence:.6g}"

    @property
    def exit_code(self) -> int:
        """0 pass, 3 fail, 4 undecided."""
        return EXIT_CODES[self.verdict]

    def plain(self) -> Mapping[str, Any]:
        return self.model_dump(mode="json")


EXIT_CODES: Mapping[str, int] = {"pass": 0, "fail": 3, "undecided": 4}


def read_gate(path: Path) -> GateResult:
    """Raises DataError naming the file if it is damaged."""
    try:
        return GateResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}. Delete it and run `drift gate` again.") from None
