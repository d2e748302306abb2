"""The two JSON files of a run: run.json, its state, and manifest.json, how the files of a folder were made.

`why_redone` compares a stage on record with the one that is wanted now, in one line for people.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from drift.disk import atomic_write
from drift.errors import DataError
from drift.rundir.fingerprints import StageFunction, StageInput, code_version, package_versions, qualified_name
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


_SHOWN = 3


def why_redone(known: StageRecord, fn: StageFunction[...], inputs: Mapping[str, StageInput], key: str) -> str:
    """What differs between the stage on record and the one that is asked for now."""
    if known.key == key:
        return "redone, its files were changed or deleted since"
    found = [*_changed_inputs(known.inputs, inputs), *_changed_code(known, fn)]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"redone, {'; '.join(found[:_SHOWN]) or 'its inputs are others'}{more}"


def _changed_inputs(before: Mapping[str, StageInput], now: Mapping[str, StageInput]) -> Iterator[str]:
    for name, given in now.items():
        known = before.get(name)
        if known is None:
            yield f"{name} is new"
        elif known.fingerprint != given.fingerprint:
            settings = _changed_settings(name, known.value, given.value)
            yield from settings or [f"the content of {_told(given.value)} changed"]


def _changed_settings(name: str, before: Any, now: Any) -> list[str]:
    """Every leaf of a settings tree, or a plain value, that is another one now."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = {**before, **now}
        return [line for key in keys for line in _changed_settings(f"{name}.{key}", before.get(key), now.get(key))]
    return [f"{name} {_told(before)} -> {_told(now)}"] if before != now else []


def _changed_code(known: StageRecord, fn: StageFunction[...]) -> Iterator[str]:
    if known.fn != qualified_name(fn):
        yield f"made by {known.fn} before"
    if known.code_version != code_version():
        yield f"drift's code {known.code_version} -> {code_version()}"
    packages = package_versions()
    for name in {**known.packages, **packages}:
        if known.packages.get(name) != packages.get(name):
            yield f"{name} {known.packages.get(name, 'missing')} -> {packages.get(name, 'missing')}"


def _told(value: Any) -> str:
    return ", ".join(map(_told, value)) if isinstance(value, list) else str(value)
