"""Files of a run that the report reads: the funnel of rows, label quality, and training steps."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drift.errors import DataError, first_problem


class FunnelStep(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    count: int
    note: str | None = None


class Funnel(BaseModel):
    """data/funnel.json: rows left after each step, in order, and dropped rows by reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[FunnelStep, ...]
    drops: dict[str, int] = Field(default_factory=dict)


class LabelQuality(BaseModel):
    """data/label_quality.json: DSAT labels against a known truth, over `n` judged replies."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    precision: float
    recall: float
    n: int


class TrainingStep(BaseModel):
    """A row of metrics.jsonl, as far as the report shows it. None: not logged at this step."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: int
    margin: float | None = Field(default=None, alias="rewards/margins")
    accuracy: float | None = Field(default=None, alias="rewards/accuracies")
    grad_norm: float | None = None
    loss: float | None = None
    sigma: float | None = Field(default=None, alias="sigma/mean")
    chosen_moved: float | None = Field(default=None, alias="logps/chosen_since_warm_start")
    rejected_moved: float | None = Field(default=None, alias="logps/rejected_since_warm_start")
    lemma_norm: float | None = Field(default=None, alias="lemma_1/gradient_norm")
    lemma_bound: float | None = Field(default=None, alias="lemma_1/bound")
    lemma_p0: float | None = Field(default=None, alias="lemma_1/p0")


def write_json(path: Path, model: BaseModel) -> None:
    path.write_text(model.model_dump_json(indent=2) + "\n", encoding="utf-8")


Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path, model: type[Model]) -> Model:
    """Raises DataError naming the file and the first field that is wrong."""
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path}: invalid {model.__name__}: {first_problem(error)}. Delete it and run `drift run` again."
        ) from None
