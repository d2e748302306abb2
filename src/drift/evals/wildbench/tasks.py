"""The five groups of tasks: which item belongs to which, and the weighted mean over them ("task macro")."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, model_validator

from drift.errors import DataError
from drift.evals.files import PublicRow, read_json, read_rows, read_text
from drift.evals.wildbench.scores import ModelScores

WEIGHTS = {
    "Creative Tasks": 0.5,
    "Planning & Reasoning": 1.25,
    "Math & Data Analysis": 1.0,
    "Information/Advice seeking": 0.75,
    "Coding & Debugging": 1.25,
}
GROUPS = {
    "Information seeking": "Information/Advice seeking",
    "Advice seeking": "Information/Advice seeking",
    "Creative Writing": "Creative Tasks",
    "Editing": "Creative Tasks",
    "Brainstorming": "Creative Tasks",
    "Role playing": "Creative Tasks",
    "Others": "Creative Tasks",
    "Reasoning": "Planning & Reasoning",
    "Planning": "Planning & Reasoning",
    "Math": "Math & Data Analysis",
    "Data Analysis": "Math & Data Analysis",
    "Coding & Debugging": "Coding & Debugging",
} | {group: group for group in WEIGHTS}
_BY_FOLDED = {tag.casefold(): group for tag, group in GROUPS.items()}

Tags = Mapping[str, frozenset[str]]
"""The groups of each item, by session id."""


class TagRow(PublicRow):
    """A row of the benchmark's data set, or any row with an id and tags."""

    id: str | None = None
    session_id: str | None = None
    primary_tag: str | None = None
    secondary_tags: tuple[str, ...] = ()
    tags: tuple[str, ...] = Field(default=(), validation_alias=AliasChoices("tags", "task_tags", "groups"))

    @model_validator(mode="after")
    def _has_an_id(self) -> "TagRow":
        if not self.keys:
            raise ValueError("needs an id or a session_id")
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """Score files name an item by its id, some by its session_id."""
        return tuple(dict.fromkeys(key for key in (self.id, self.session_id) if key))


@dataclass(frozen=True, slots=True)
class TaskScores:
    """`task_score`: the weighted mean, times 10; `groups`: WB-Score of each group; `untagged`: replies without tags."""

    task_score: float
    groups: dict[str, float]
    untagged: int

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(group for group in WEIGHTS if group not in self.groups)


def read_tags(path: Path) -> Tags:
    """From the data set's rows, or from one object {session id: [tags]}. Raises DataError for an unknown tag."""
    if path.suffix != ".parquet" and (mapping := _as_mapping(path)) is not None:
        rows = [TagRow(session_id=key, tags=tuple([tags] if isinstance(tags, str) else tags)) for key, tags in mapping]
    else:
        rows = read_rows(path, TagRow)
    tagged = {key: (row.primary_tag, *row.secondary_tags, *row.tags) for row in rows for key in row.keys}
    return {key: frozenset(_group(path, key, tag) for tag in tags if tag) for key, tags in tagged.items()}


def weighted_mean(by_group: Mapping[str, float]) -> float:
    """Over the five groups, with the benchmark's weights; a group without items counts as 0, as in the benchmark."""
    return sum(WEIGHTS[group] * value for group, value in by_group.items()) / sum(WEIGHTS.values())


def score_tasks(scores: ModelScores, tags: Tags) -> TaskScores:
    """Empty and truncated replies are left out; an item counts once in each of its groups."""
    collected: dict[str, list[float]] = defaultdict(list)
    untagged = 0
    for reply in scores.replies:
        groups = tags.get(reply.session_id, ())
        untagged += not groups
        if not reply.skipped:
            for group in groups:
                collected[group].append(reply.score)
    if not collected:
        raise DataError(f"{scores.file}: none of the session_ids of {scores.name} is in the file of tags (--tags).")
    halves = {group: (sum(values) / len(values) - 5) * 2 for group, values in collected.items()}
    return TaskScores(weighted_mean(halves) * 10, {group: 10 * halves[group] for group in sorted(halves)}, untagged)


def _as_mapping(path: Path) -> list[tuple[str, Any]] | None:
    text = read_text(path).strip()
    if not text.startswith("{") or not text.endswith("}") or "\n{" in text:
        return None
    value = read_json(path)
    if "session_id" in value or "id" in value or not all(isinstance(tags, str | list) for tags in value.values()):
        return None
    return list(value.items())


def _group(path: Path, key: str, tag: str) -> str:
    group = _BY_FOLDED.get(tag.strip().casefold())
    if group is None:
        raise DataError(f"{path}: {key}: unknown WildBench tag {tag!r}. Allowed: {', '.join(sorted(GROUPS))}.")
    return group
