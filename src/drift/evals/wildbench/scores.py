"""WB-Score: a judge's score of 1 to 10 for every task, read from public score files."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, BeforeValidator, Field

from drift.errors import DataError
from drift.evals.files import PublicRow, read_rows

TASKS = 1024
CUT = "... (truncated)"


def parsed_score(value: Any) -> float | None:
    """A judge's score as a number; None if its answer holds none."""
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return score if math.isfinite(score) else None


def _text(value: Any) -> Any:
    """Some files hold a reply as a list with one element."""
    return value[0] if isinstance(value, list) and value else value


class ScoreRow(PublicRow):
    """A scored reply: its text, or its length in characters (`len_strip`: without surrounding white space)."""

    session_id: str = Field(validation_alias=AliasChoices("session_id", "id"))
    model: str | None = Field(default=None, validation_alias=AliasChoices("model", "model_test", "generator"))
    score: Annotated[float | None, BeforeValidator(parsed_score)] = None
    model_output: Annotated[str | None, BeforeValidator(_text)] = Field(
        default=None, validation_alias=AliasChoices("model_output", "output")
    )
    len_strip: int | None = None
    length: int | None = Field(default=None, validation_alias=AliasChoices("len", "length"))
    truncated: bool | None = None


@dataclass(frozen=True, slots=True)
class ScoredReply:
    """`length`: characters without surrounding white space, None if unknown; `skipped`: empty, or cut off."""

    session_id: str
    score: float
    length: int | None
    skipped: bool


@dataclass(frozen=True, slots=True)
class ModelScores:
    """`name`: the model's name in the output; `full_name`: its name in the file."""

    name: str
    full_name: str
    file: str
    replies: tuple[ScoredReply, ...]
    unscored: int

    @property
    def wb_score(self) -> float:
        """(mean - 5) * 20 over the rows whose score could be read."""
        return (sum(reply.score for reply in self.replies) / len(self.replies) - 5) * 20

    @property
    def average_length(self) -> float | None:
        """Characters, over the replies that are neither empty nor cut off."""
        lengths = [reply.length for reply in self.replies if not reply.skipped and reply.length is not None]
        return float(np.mean(lengths)) if lengths else None

    @property
    def without_length(self) -> int:
        """Replies that are neither empty nor cut off, of which the file has neither the text nor the length."""
        return sum(reply.length is None and not reply.skipped for reply in self.replies)


def read_scores(paths: Sequence[Path]) -> list[ModelScores]:
    """The models of all files. Raises DataError for an invalid row, a model without scores, or a duplicate name."""
    models = [model for path in paths for model in _models(path)]
    for place, model in enumerate(models):
        other = next((m for m in models[:place] if m.name == model.name), None)
        if other:
            raise DataError(f"{model.file}: the model {model.name} is in {other.file} too. Rename one of the two.")
    return models


def _models(path: Path) -> list[ModelScores]:
    groups: dict[str, list[ScoreRow]] = defaultdict(list)
    for row in read_rows(path, ScoreRow):
        groups[row.model or path.stem].append(row)
    return [_scored(path, name, rows, len(groups) == 1) for name, rows in groups.items()]


def _scored(path: Path, full_name: str, rows: Sequence[ScoreRow], alone: bool) -> ModelScores:
    replies = tuple(
        ScoredReply(row.session_id, row.score, _length(row), _is_skipped(row)) for row in rows if row.score is not None
    )
    if not replies:
        raise DataError(f"{path}: none of the {len(rows)} rows of {full_name} holds a numeric score.")
    return ModelScores(
        name=_short_name(path, full_name, alone),
        full_name=full_name,
        file=str(path),
        replies=replies,
        unscored=len(rows) - len(replies),
    )


def _short_name(path: Path, full_name: str, alone: bool) -> str:
    """As the leaderboard does: the file's `..__NAME` if it holds one model, else the id without its owner."""
    _, marked, name = path.stem.rpartition("__")
    return name if marked and name and alone else full_name.split("/")[-1]


def _length(row: ScoreRow) -> int | None:
    if row.model_output is not None:
        return len(row.model_output.strip())
    return row.length if row.len_strip is None else row.len_strip


def _is_skipped(row: ScoreRow) -> bool:
    if row.model_output is not None and row.model_output.strip().endswith(CUT):
        return True
    return bool(row.truncated) or _length(row) == 0
