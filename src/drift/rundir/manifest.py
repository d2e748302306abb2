"""The two JSON files of a run: run.json, how the run stands, and manifest.json, how a folder's files came to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from drift.disk import atomic_write
from drift.errors import DataError
from drift.rundir.fingerprints import StageInput
from drift.rundir.layout import MANIFEST, RUN


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A finished stage. The settings it saw and its seed are inputs like any other.

    `outputs`: sha256 by path relative to the manifest; `started_at`: UTC, ISO 8601.
    """

    name: str
    key: str
    fn: str
    inputs: dict[str, StageInput]
    code_version: str
    packages: dict[str, str]
    outputs: dict[str, str]
    counts: Mapping[str, int | float | None]
    wall_seconds: float
    started_at: str

    @property
    def entries(self) -> set[str]:
        """The files and folders beside the manifest that are this stage's."""
        return {output.split("/")[0] for output in self.outputs}


@dataclass(frozen=True, slots=True)
class StageManifest:
    """The stages of one folder, by the name of their main output."""

    stages: dict[str, StageRecord] = field(default_factory=dict)

    def other_owner(self, entries: set[str], stage: str) -> str | None:
        """A stage other than `stage` to which one of these entries belongs."""
        return next((name for name, record in self.stages.items() if name != stage and record.entries & entries), None)


@dataclass(frozen=True, slots=True)
class RunState:
    """How the run stands. `stages`: those that the latest command has finished or reused, in its order.

    `threads`: of the CPU, for every command on this run.
    """

    state: Literal["running", "interrupted", "failed", "done"]
    seed: int
    started_at: str
    finished_at: str | None = None
    stage: str | None = None
    stages: tuple[str, ...] = ()
    headline: dict[str, int | float | None] = field(default_factory=dict)
    label_hash: str | None = None
    threads: int | None = None
    error: str | None = None


def read_manifest(folder: Path) -> StageManifest:
    """The folder's manifest, or an empty one. Raises DataError if it is damaged."""
    return _read(folder / MANIFEST, StageManifest) if (folder / MANIFEST).exists() else StageManifest()


def former_threads(run: Path) -> int | None:
    """The number of CPU threads that earlier commands have run on; None if there is no readable run.json."""
    try:
        return read_state(run).threads
    except (OSError, DataError):
        return None


def read_state(run: Path) -> RunState:
    """Raises DataError if run.json is damaged."""
    return _read(run / RUN, RunState)


def write_json(path: Path, value: RunState | StageManifest) -> None:
    atomic_write(path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


Parsed = TypeVar("Parsed")


def _read(path: Path, kind: type[Parsed]) -> Parsed:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        what = error.errors()[0]["msg"]
        raise DataError(f"{path}: damaged ({what}). Delete it: the next `drift run` makes it anew.") from None
