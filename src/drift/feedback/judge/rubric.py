"""A rubric: the signs of satisfied and of dissatisfied turns, as a YAML file that people can read and edit."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drift.config import read_yaml
from drift.errors import DataError, first_problem
from drift.records import stable_hash

DEFAULT = Path(__file__).with_name("rubric.yaml")
HARDEST = 10
"""Impacts run from 1 to this (SPUR, step 3)."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Part):
    """`id` begins with D or S. `support`: the number of extracted reasons behind it."""

    id: str = Field(pattern=r"^[DS][0-9]{1,2}$")
    text: str = Field(min_length=3, max_length=400)
    support: int | None = None


class Regression(_Part):
    """p_dsat = sigmoid(bias + sum of weight times impact / 10). `server`: weight of the server's own log-odds."""

    bias: float
    weights: dict[str, float]
    server: float = 0.0


class Rubric(_Part):
    """`provenance`: how it was made, for people; the judge does not see it."""

    version: int = 1
    name: str
    dsat: tuple[Item, ...] = Field(min_length=1, max_length=20)
    sat: tuple[Item, ...] = Field(min_length=1, max_length=20)
    regression: Regression | None = None
    provenance: dict[str, Any] = {}

    @model_validator(mode="after")
    def _ids(self) -> "Rubric":
        ids = [item.id for item in (*self.dsat, *self.sat)]
        if len(ids) != len(set(ids)):
            raise ValueError("an id is used twice")
        if any(item.id[0] != "D" for item in self.dsat) or any(item.id[0] != "S" for item in self.sat):
            raise ValueError("ids of dsat must begin with D, ids of sat with S")
        if self.regression and (unknown := set(self.regression.weights) - set(ids)):
            raise ValueError(f"regression has weights for unknown items: {', '.join(sorted(unknown))}")
        return self

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(item.id for item in (*self.dsat, *self.sat))

    @property
    def fingerprint(self) -> str:
        return stable_hash(self.model_dump(exclude={"provenance", "name"}))

    def score(self, impacts: Mapping[str, int]) -> int:
        """Sum of the SAT items' impacts less that of the DSAT items (SPUR, step 3)."""
        return sum(impact if name[0] == "S" else -impact for name, impact in impacts.items())


def load_rubric(path: Path | None = None) -> Rubric:
    """The rubric in the file, or the default one. Raises DataError with the file and what is wrong with it."""
    file = path or DEFAULT
    try:
        return Rubric.model_validate(read_yaml(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise DataError(f"{file}: invalid rubric: {first_problem(error, 'rubric')}. {DEFAULT} is an example.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{file}: cannot be read as YAML: {' '.join(str(error).split()).removesuffix('.')}.") from None


def dump_rubric(rubric: Rubric) -> str:
    tree = rubric.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)
