"""Write a run: execute its stages, or reuse their outputs.

A stage is a plain function `fn(out, *inputs)`. It writes the file or folder `out`, perhaps further files beside it, and
returns counts. It works in `RUN/.work/STAGE@KEY`. When it returns, its outputs are moved into place and recorded in the
manifest.json of their folder. The key is a hash of the function's name, the content of its inputs, the code and the
packages. So the same command resumes: a stage with an equal key is reused, any other is redone, and no output is ever
incomplete. A long stage resumes from its finished batches if it uses `partial_work(out)`.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from drift.disk import (
    TEMPORARY,
    atomic_write,
    link_or_copy,
    make_folder,
    move_into_place,
    remove_temporaries,
    take_lock,
)
from drift.errors import DataError
from drift.progress import report_note
from drift.records import Counts, ReadMark
from drift.rundir import layout
from drift.rundir.fingerprints import (
    Digests,
    Inputs,
    StageFunction,
    code_version,
    describe_inputs,
    package_versions,
    qualified_name,
    stage_key,
)
from drift.rundir.journal import forget_outputs, outputs_in
from drift.rundir.layout import CONFIG, LOCK, MANIFEST, STATE, WORK
from drift.rundir.manifest import RunState, StageRecord, former_state, read_manifest, read_state, why_redone, write_json

REPLACED = "replaced"  # in .work: the former outputs, until the new ones are in place

Event = Literal["reused", "running", "done"]
OnStage = Callable[[str, Event, Mapping[str, int | float | None]], None]
Beside = Callable[[], Iterable[Path]]


class RunDir:
    """A run folder, opened by `open`; it holds RUN/lock until the `with` block ends, however it ends."""

    def __init__(self, path: Path, lock: int, seed: int, on_stage: OnStage | None, beside: Beside = tuple):
        self.path = path
        self._beside = beside
        self._lock = lock
        former = former_state(path)
        kept = {} if former is None else {"threads": former.threads, "date": former.date}
        self._state = RunState("running", seed, _now(), **kept)
        self._on_stage = on_stage
        self._digests = Digests()

    @classmethod
    def open(
        cls, path: Path, config_yaml: str, seed: int, on_stage: OnStage | None = None, beside: Beside = tuple
    ) -> Self:
        """Create the run folder, or resume the run in it.

        `on_stage(name, event, counts)` is called for every stage: "reused", or "running" and then "done". `beside`:
        names other run folders; a stage that one of them has made with an equal key by then is copied.
        Raises DataError if `path` is a file, holds something other than a run, or is in use by another process.
        """
        _prepare(path)
        run = cls(path, take_lock(path / LOCK, "--out DIR"), seed, on_stage, beside)
        run._clear_work()  # left by a killed process
        remove_temporaries(path)
        atomic_write(path / CONFIG, config_yaml.encode())
        run._update()
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        try:
            # a step after the run is done, such as its report, may fail
            if kind is None or self._state.state == "done":
                self.finish()
            elif issubclass(kind, KeyboardInterrupt):
                self._update(state="interrupted", finished_at=_now())
            else:
                self._update(state="failed", finished_at=_now(), error=str(error) or kind.__name__)
        finally:
            os.close(self._lock)

    def stage(self, name: str, fn: StageFunction[Inputs], /, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Path:
        """Return RUN/name, written by `fn(out, *args, **kwargs)` now or by an equal earlier call.

        An input is a path (its content counts), a pydantic model, a plain value, a tuple of these, or Fingerprinted.
        Raises TypeError for any other input, and for a function that has hidden ones (a closure, a bound method).
        """
        if name.count("/") > 1:
            raise ValueError(f"{name}: a stage must be in the run folder or one folder below it")
        target = self.path / name
        described = describe_inputs(fn, self.path, self._digests, *args, **kwargs)
        key = stage_key(name, fn, described)
        recorded = read_manifest(target.parent).stages.get(target.name)
        if recorded and self._is_kept(target, recorded, key):
            self._finished(recorded, "reused")
            return target
        if self._taken_from_beside(target, name, key):
            return target
        if recorded:
            report_note(f"{name}: {why_redone(recorded, fn, described, key)}")
        self._update(stage=name)
        (self.path / layout.REPORT).unlink(missing_ok=True)  # of an earlier state
        self._notify(name, "running", {})
        started_at, clock = _now(), time.monotonic()
        work = self._work_folder(name, key)
        counts, outputs = self._make(target, work, lambda out: fn(out, *args, **kwargs))
        seconds = round(time.monotonic() - clock, 3)
        record = StageRecord(
            name,
            key,
            qualified_name(fn),
            described,
            code_version(),
            package_versions(),
            outputs,
            counts,
            seconds,
            started_at,
        )
        self._record(target, record, work)
        self._finished(record, "done")
        return target

    def iteration(self, k: int) -> "StageFolder":
        """The same interface one folder down: `run.iteration(2).stage("policy", ...)` makes RUN/iteration-2/policy."""
        return self.folder(layout.iteration(k))

    def folder(self, name: str) -> "StageFolder":
        """The same interface for RUN/`name`."""
        return StageFolder(self, name)

    def headline(self, **numbers: int | float | None) -> None:
        """Set the numbers that lists of runs and the report show first."""
        self._update(headline={**self._state.headline, **numbers})

    @property
    def threads(self) -> int | None:
        """CPU threads that earlier commands on this run used."""
        return self._state.threads

    @property
    def date(self) -> str | None:
        """The day on which the run began, as earlier commands recorded it."""
        return self._state.date

    def pin(
        self,
        *,
        label_hash: str | None = None,
        threads: int | None = None,
        date: str | None = None,
        base: str | None = None,
        adapter: str | None = None,
        beneath: str | None = None,
        verdict: str | None = None,
        where: str | None = None,
    ) -> None:
        """Record what later commands need of this one; run.json's fields of these names (`RunState`)."""
        pinned = {"label_hash": label_hash, "threads": threads, "date": date, "base": base, "verdict": verdict}
        pinned |= {"adapter": adapter, "beneath": beneath, "where": where}
        self._update(**{name: value for name, value in pinned.items() if value is not None})

    def pin_reading(self, generation: int, store_id: str, read: tuple[ReadMark, ...]) -> None:
        """Record which generation of a chain this run is, its store, and how far each generation has read it."""
        self._update(generation=generation, store_id=store_id, read=read)

    def fingerprint(self, source: Path) -> str:
        """sha256 of a file, or of the names and files of a folder."""
        return self._digests.content(source)

    def finish(self) -> None:
        """Mark the run as done. Leaving the `with` block without an error does so too."""
        if self._state.state != "done":
            shutil.rmtree(self.path / WORK, ignore_errors=True)
            self._update(state="done", stage=None, finished_at=_now())

    def _is_kept(self, target: Path, recorded: StageRecord, key: str) -> bool:
        """Whether a call with this key would give what is there."""
        return recorded.key == key and self._digests.under(target.parent, recorded.entries) == recorded.outputs

    def _taken_from_beside(self, target: Path, name: str, key: str) -> bool:
        """Whether another run has made an equal stage. Its outputs are here then, as if it had run here."""
        for run in self._beside():
            there = run / name
            try:
                record = read_manifest(there.parent).stages.get(there.name)
                if record is None or record.key != key:
                    continue
                work = self._work_folder(name, key)
                self._make(target, work, partial(self._copy_outputs, record, there.parent))
            except (OSError, DataError):  # that run replaces its outputs just now, or is damaged
                continue
            self._record(target, record, work)
            report_note(f"{name}: copied from a run beside this one, which made it of equal inputs")
            self._finished(record, "reused")
            return True
        return False

    def _copy_outputs(self, record: StageRecord, source: Path, out: Path) -> Counts:
        """Raises DataError if they are not what the record says."""
        for entry in record.entries:
            link_or_copy(source / entry, out.parent / entry)
        if self._digests.under(out.parent, record.entries) != record.outputs:
            raise DataError(f"{source}: {record.name} was changed after it was made.")
        return {}  # the record has the counts

    def _record(self, target: Path, record: StageRecord, work: Path) -> None:
        manifest = read_manifest(target.parent)
        write_json(target.parent / MANIFEST, replace(manifest, stages={**manifest.stages, target.name: record}))
        shutil.rmtree(work)  # only now: until the manifest names the outputs, partial work may be needed again

    def _work_folder(self, name: str, key: str) -> Path:
        """The stage's work folder. Work under another key is useless now and is deleted."""
        prefix = name.replace("/", "~")
        work = self.path / WORK / f"{prefix}@{key[:12]}"
        for other in (self.path / WORK).glob(f"{prefix}@*"):
            if other != work:
                shutil.rmtree(other)
        work.mkdir(parents=True, exist_ok=True)
        return work

    def _make(self, target: Path, work: Path, write: Callable[[Path], Counts]) -> tuple[Counts, dict[str, str]]:
        """Call `write` in the work folder, move its outputs beside `target`, and return counts and hashes."""
        try:
            counts = dict(write(work / target.name))
            entries = outputs_in(work)
            manifest = read_manifest(target.parent)
            if not self._digests.under(work, [target.name]):
                raise RuntimeError(f"the stage {target.name} returned but has not written {target.name}")
            if other := manifest.other_owner(entries, target.name):
                raise RuntimeError(f"the stage {target.name} wrote {sorted(entries)}, which include outputs of {other}")
            former = manifest.stages[target.name].entries if target.name in manifest.stages else ()
            move_into_place(work, entries, target.parent, former, self.path / WORK / REPLACED)
            shutil.rmtree(self.path / WORK / REPLACED)
            return counts, self._digests.under(target.parent, entries)
        except BaseException:
            self._clear_work()
            raise

    def _clear_work(self) -> None:
        """Delete everything in RUN/.work except the partial work of interrupted stages."""
        folder = self.path / WORK
        if folder.is_dir():
            shutil.rmtree(folder / REPLACED, ignore_errors=True)
            for work in folder.iterdir():
                forget_outputs(work)
            if not any(folder.iterdir()):
                folder.rmdir()

    def _finished(self, record: StageRecord, event: Event) -> None:
        others = tuple(stage for stage in self._state.stages if stage != record.name)
        self._update(stage=record.name, stages=(*others, record.name))
        self._notify(record.name, event, record.counts)

    def _notify(self, name: str, event: Event, counts: Mapping[str, int | float | None]) -> None:
        if self._on_stage is not None:
            self._on_stage(name, event, counts)

    def _update(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        write_json(self.path / STATE, self._state)


@dataclass(frozen=True, slots=True)
class StageFolder:
    """The stages of one folder of the run: of an iteration, the base, the warm start or the held-out replies."""

    run: RunDir
    name: str

    @property
    def path(self) -> Path:
        return self.run.path / self.name

    def stage(self, name: str, fn: StageFunction[Inputs], /, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Path:
        """As `RunDir.stage`, in this folder."""
        return self.run.stage(f"{self.name}/{name}", fn, *args, **kwargs)


def pin_finished(path: Path, **changes: Any) -> None:
    """Record what was not known yet when this run finished; its other fields stay, which `RunDir.open` begins anew."""
    lock = take_lock(path / LOCK, "--out DIR")
    try:
        write_json(path / STATE, replace(read_state(path), **changes))
    finally:
        os.close(lock)


def _prepare(path: Path) -> None:
    make_folder(path, "a run")
    try:
        names = {name for name in os.listdir(path) if not name.endswith(TEMPORARY)}
    except OSError as error:
        raise DataError(f"{path}: cannot be a run folder: {error.strerror}. Choose another with --out DIR.") from None
    if STATE not in names and names - {LOCK, CONFIG}:  # a run that was killed at its start has only these two
        raise DataError(
            f"{path}: contains {min(names)!r} but is not a run. Choose a new or empty folder with --out DIR."
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
