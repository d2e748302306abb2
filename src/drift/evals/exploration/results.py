"""exploration.json: the results of `drift eval exploration`. The report reads it too, so no heavy imports here."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from drift.errors import DataError, first_problem
from drift.evals.exploration.regions import RegionShares


@dataclass(frozen=True, slots=True)
class MethodResult:
    """`vendi`, `cosine_distance`, `self_bleu`: among the replies to one prompt, averaged over prompts; `vendi_pooled`:
    among all. `coverage`: by k, the probability that k replies include a good one. `map`, `raw`: shares in each R_q.
    """

    mean_reward: float
    distinct_1: float
    distinct_2: float
    distinct_3: float
    self_bleu: float
    vendi: float
    vendi_pooled: float
    cosine_distance: float
    coverage: dict[int, float]
    map: tuple[RegionShares, ...]
    raw: tuple[RegionShares, ...]


@dataclass(frozen=True, slots=True)
class ExplorationSummary:
    """The definition is this project's own (docs/evaluation.md): shares are comparable within one call only.

    `points`: by method, each reply's place on the first seed's map and its weight, (x, y, weight). `policy_hash`: in a
    run's own copy, of the policy that the run had then (`RunView.policy_hash`).
    """

    methods: dict[str, MethodResult]
    prompts: int
    samples: int
    reward: str
    embedder: str
    good_from: float
    figure: str
    left_out: int
    left_out_by: dict[str, int] = field(default_factory=dict)
    not_comparable: tuple[str, ...] = ()
    points: dict[str, tuple[tuple[float, float, float], ...]] = field(default_factory=dict)
    policy_hash: str | None = None

    def json(self) -> str:
        return orjson.dumps(asdict(self), option=orjson.OPT_NON_STR_KEYS).decode()

    def headline(self) -> dict[str, Any]:
        """Everything but the tables, the map and the hash."""
        left_out = ("methods", "points", "policy_hash")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def read_exploration(path: Path) -> ExplorationSummary:
    """Raises DataError naming the file and the first field that is wrong."""
    try:
        return TypeAdapter(ExplorationSummary).validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path}: invalid exploration: {first_problem(error)}. Delete it, or run `drift eval exploration` again."
        ) from None
