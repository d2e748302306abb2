"""The two JSON files of a run: run.json, its state, and manifest.json, how the files of a folder were made.

`why_redone` says in one line how a recorded stage differs from the one that is called now.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from drift.disk import atomic_write
from drift.errors import DataError
from drift.records import ReadMark
from drift.rundir.fingerprints import StageFunction, StageInput, code_version, package_versions, qualified_name
from drift.rundir.layout import MANIFEST, STATE


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A finished stage. Its settings and its seed are inputs too.

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
        """The files and folders of this stage, beside the manifest."""
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
    """The state of a run. `stages`: the stages that the latest command finished or reused, in order.

    `threads`: CPU threads of every command on this run. `date`: what its chat template shows, ISO 8601.
    `generation`: 1 for a run that starts from a model, N + 1 for one that starts from generation N. `store_id`: of the
    store that it reads. `read`: how far each generation has read it, the run itself last; empty for runs of earlier
    versions. `base`: hash of the model that the chain started from; if that is an adapter, of its base, and `adapter`
    is the hash of the adapter. `beneath`: hash of what an adapter of this run stands on. `verdict`: the first line of
    the report. `where`: the host of the latest command, and the cluster that it uses.
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
    date: str | None = None
    error: str | None = None
    generation: int = 1
    store_id: str | None = None
    read: tuple[ReadMark, ...] = ()
    base: str | None = None
    adapter: str | None = None
    beneath: str | None = None
    verdict: str | None = None
    where: str | None = None


def read_manifest(folder: Path) -> StageManifest:
    """The folder's manifest, or an empty one. Raises DataError if it is damaged."""
    return _read(folder / MANIFEST, StageManifest) if (folder / MANIFEST).exists() else StageManifest()


def former_state(run: Path) -> RunState | None:
    """What earlier commands left; None if run.json is missing or damaged."""
    try:
        return read_state(run)
    except (OSError, DataError):
        return None


def read_state(run: Path) -> RunState:
    """Raises DataError if run.json is damaged."""
    return _read(run / STATE, RunState)


def write_json(path: Path, value: RunState | StageManifest) -> None:
    atomic_write(path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


Parsed = TypeVar("Parsed")


def _read(path: Path, kind: type[Parsed]) -> Parsed:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        remedy = "Run the run's own command again, which" if path.name == STATE else "Delete it: the next `drift run`"
        raise DataError(f"{path}: damaged ({problem}). {remedy} writes a new one.") from None


_MAX_DIFFERENCES = 3


def why_redone(recorded: StageRecord, fn: StageFunction[...], inputs: Mapping[str, StageInput], key: str) -> str:
    """Why a recorded stage must run again, in one line."""
    if recorded.key == key:
        return "redone, its files were changed or deleted since"
    differences = [*_changed_inputs(recorded.inputs, inputs), *_changed_code(recorded, fn)]
    more = f" and {len(differences) - _MAX_DIFFERENCES} more" if len(differences) > _MAX_DIFFERENCES else ""
    return f"redone, {'; '.join(differences[:_MAX_DIFFERENCES]) or 'its inputs changed'}{more}"


def _changed_inputs(before: Mapping[str, StageInput], now: Mapping[str, StageInput]) -> Iterator[str]:
    for name, current in now.items():
        recorded = before.get(name)
        if recorded is None:
            yield f"{name} is new"
        elif recorded.fingerprint != current.fingerprint:
            if recorded.value == current.value:
                yield f"the content of {_formatted(current.value)} changed"
            else:
                yield from _changed_settings(name, recorded.value, current.value)


def _changed_settings(name: str, before: Any, now: Any) -> Iterator[str]:
    """One line for each setting, or plain value, that changed.

    A setting that stands on one side alone was moved, added or removed with drift's code: the user did not change it.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in before:
            if key in now:
                yield from _changed_settings(f"{name}.{key}", before[key], now[key])
    elif before != now:
        yield f"{name} {_formatted(before)} -> {_formatted(now)}"


def _changed_code(recorded: StageRecord, fn: StageFunction[...]) -> Iterator[str]:
    if recorded.fn != qualified_name(fn):
        yield f"formerly made by {recorded.fn}"
    if recorded.code_version != code_version():
        yield f"drift's code {recorded.code_version} -> {code_version()}"
    packages = package_versions()
    for name in {**recorded.packages, **packages}:
        if recorded.packages.get(name) != packages.get(name):
            yield f"{name} {recorded.packages.get(name, 'missing')} -> {packages.get(name, 'missing')}"


def _formatted(value: Any) -> str:
    return ", ".join(map(_formatted, value)) if isinstance(value, list) else str(value)
