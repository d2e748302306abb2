"""Annotations of AlpacaEval 2 as they lie in public files: one judged comparison per row."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import AliasChoices, Field

from drift.evals.files import PublicRow, read_rows

BASELINE = "gpt4_1106_preview"
INSTRUCTIONS = 805


class Annotation(PublicRow):
    """`preference` in [1, 2]: 1 is for the baseline (`generator_1`), 2 for the model; none or NaN: unscored."""

    preference: float | None = Field(default=None, validation_alias=AliasChoices("preference", "preferences"))
    generator_1: str = BASELINE
    generator_2: str = Field(default="model", validation_alias=AliasChoices("generator_2", "generator", "model"))
    len_1: float | None = None
    len_2: float | None = None
    output_1: str | None = None
    output_2: str | None = None
    index: int | None = None
    annotator: str | None = None


@dataclass(frozen=True, slots=True)
class ModelAnnotations:
    """One model against one baseline, a row per instruction.

    `preferences`: float64 [N], NaN where unscored; `length_differences`: float64 [N], characters of the baseline minus
    those of the model, NaN where an unscored row has no length, None if a scored row has none; `positions`: the
    instruction's row in the reference files.
    """

    model: str
    baseline: str
    annotator: str | None
    preferences: np.ndarray
    length_differences: np.ndarray | None
    positions: tuple[int, ...]

    @property
    def is_baseline(self) -> bool:
        return self.model == self.baseline


def read_annotations(path: Path) -> list[ModelAnnotations]:
    """Every model of a file, in the order of first appearance. Raises DataError naming the row that is none."""
    groups: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
    for row in read_rows(path, Annotation):
        groups[row.generator_2, row.generator_1].append(row)
    return [_grouped(model, baseline, rows) for (model, baseline), rows in groups.items()]


def _grouped(model: str, baseline: str, rows: Sequence[Annotation]) -> ModelAnnotations:
    annotators = {row.annotator for row in rows}
    return ModelAnnotations(
        model=model,
        baseline=baseline,
        annotator=annotators.pop() if len(annotators) == 1 else None,
        preferences=np.array([math.nan if row.preference is None else row.preference for row in rows]),
        length_differences=_length_differences(rows),
        positions=_positions(rows),
    )


def _positions(rows: Sequence[Annotation]) -> tuple[int, ...]:
    """The file's own `index`; without one, or where models follow each other under one count, the place in the file.

    The original matches by position, so a file that lacks instructions is matched as the leaderboard matched it.
    """
    indexes = [row.index for row in rows if row.index is not None]
    known = len(indexes) == len(rows) and len(set(indexes)) == len(rows)
    if known and min(indexes) >= 0 and max(indexes) < max(INSTRUCTIONS, len(rows)):
        return tuple(indexes)
    return tuple(range(len(rows)))


def _length_differences(rows: Sequence[Annotation]) -> np.ndarray | None:
    differences = [_length_difference(row) for row in rows]
    if any(known is None and not _is_unscored(row) for row, known in zip(rows, differences, strict=True)):
        return None
    return np.array(differences, dtype=np.float64)  # None becomes NaN


def _is_unscored(row: Annotation) -> bool:
    return row.preference is None or math.isnan(row.preference)


def _length_difference(row: Annotation) -> float | None:
    if row.len_1 is not None and row.len_2 is not None:
        return row.len_1 - row.len_2
    if row.output_1 is not None and row.output_2 is not None:
        return float(len(row.output_1) - len(row.output_2))
    return None
