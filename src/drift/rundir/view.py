"""Read-only views of runs, for the report, the export and the list of runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from drift.disk import is_locked
from drift.errors import DataError
from drift.progress import report_note
from drift.records import stable_hash
from drift.rundir import layout
from drift.rundir.layout import CONFIG, LOCK, MANIFEST, STATE
from drift.rundir.manifest import RunState, StageRecord, read_manifest, read_state


@dataclass(frozen=True, slots=True)
class RunView:
    """A run on disk. `stages`: those of the latest command, in order.

    `outdated`: outputs of earlier commands that the latest command has not reached, relative to the run folder.
    """

    path: Path
    config_yaml: str
    state: RunState
    stages: tuple[StageRecord, ...]
    outdated: frozenset[str]

    @property
    def settings(self) -> dict[str, Any]:
        """The config as plain values, of any version of drift; empty if it cannot be parsed."""
        try:
            settings = yaml.safe_load(self.config_yaml)
        except yaml.YAMLError:
            settings = None
        return settings if isinstance(settings, dict) else {}

    @property
    def iterations(self) -> tuple[int, ...]:
        """Numbers (from 1) of the iterations that have at least one stage."""
        numbers = {layout.iteration_of(stage.name) for stage in self.stages}
        return tuple(sorted(number for number in numbers if number is not None))

    @property
    def kept(self) -> int | None:
        """The iteration whose policy is RUN/policy; 0 is the warm start, None a run without one yet."""
        counts = next((stage.counts for stage in self.stages if stage.name == layout.POLICY), {})
        iteration = counts.get("iteration")
        return None if iteration is None else int(iteration)

    @property
    def policy_hash(self) -> str | None:
        """Of the files of RUN/policy: a measurement of the policy that it names is one of this policy. None without a
        policy, or while the latest command has not reached it."""
        record = next((stage for stage in self.stages if stage.name == layout.POLICY), None)
        return None if record is None else stable_hash(sorted(record.outputs.items()))

    @property
    def pair_files(self) -> list[str]:
        """The run's files of pairs in the order of training; the warm start's come first."""
        names = [stage.name for stage in self.stages if stage.name.endswith(f"/{layout.PAIRS}")]
        trained = (name for name in names if not name.startswith(f"{layout.HELDOUT_REPLIES}/"))
        return sorted(trained, key=lambda name: layout.iteration_of(name) or 0)

    @property
    def learned_from(self) -> list[str]:
        """The files of pairs that RUN/policy was trained on."""
        return [
            name
            for name in self.pair_files
            if (layout.iteration_of(name) or 0) <= (self.kept or 0)
            and f"{name.rpartition('/')[0]}/{layout.POLICY}" in self.state.stages
        ]

    @property
    def store_folders(self) -> list[Path]:
        """Where the run's store can be: the folder that the config names, else those in the run's own folder."""
        named = self.settings.get("store")
        return [Path(named)] if named else sorted((self.path / layout.STORE).glob("*"))

    def file(self, name: str) -> Path | None:
        """`RUN/name`; None if it is missing or outdated."""
        path = self.path / name
        return path if path.exists() and name not in self.outdated else None


def run_of(source: str) -> Path | None:
    """The run that a model is, or lies in (RUN/policy, RUN/iteration-2/policy); None for any other model."""
    path = Path(source)
    folders = (path, *path.absolute().parents[:2]) if path.exists() else ()
    return next((folder for folder in folders if layout.is_run(folder)), None)


def load_run(path: Path) -> RunView:
    """The run at `path`, finished or not. Raises DataError if there is none, or if one of its JSON files is damaged."""
    if not (path / STATE).is_file():
        raise DataError(f"{path}: not a run, {STATE} is missing. `drift runs` lists the runs.")
    state = read_state(path)
    if state.state == "running" and not is_locked(path / LOCK):  # it was killed before it could record that
        state = replace(state, state="interrupted")
    records = {
        record.name: record for folder in _stage_folders(path) for record in read_manifest(folder).stages.values()
    }
    config = path / CONFIG
    return RunView(
        path=path,
        config_yaml=config.read_text("utf-8") if config.exists() else "",
        state=state,
        stages=tuple(records[name] for name in state.stages if name in records),
        outdated=frozenset(
            (Path(record.name).parent / output).as_posix()
            for record in records.values()
            if record.name not in state.stages
            for output in (*record.entries, *record.outputs)
        ),
    )


def list_runs(root: Path, skip_damaged: bool = False, nested: bool = False) -> list[RunView]:
    """The runs in `root`, oldest first; empty if the folder does not exist. Raises DataError for one that is damaged;
    with `skip_damaged`, a note names it. `nested`: also those in folders of folders (`name: team/prod`)."""
    runs, damaged = read_runs(root, nested)
    for error in damaged:
        if not skip_damaged:
            raise error
        report_note(f"left out: {error}")
    return runs


def read_runs(root: Path, nested: bool) -> tuple[list[RunView], list[DataError]]:
    """The runs that `list_runs` lists, and what is wrong with the others."""
    runs: list[RunView] = []
    damaged: list[DataError] = []
    for folder in _run_folders(root, nested):
        try:
            runs.append(load_run(folder))
        except DataError as error:
            damaged.append(error)
    return sorted(runs, key=lambda run: (run.state.started_at, run.path)), damaged


def _run_folders(root: Path, nested: bool) -> list[Path]:
    """Each run once, by its own name: a link such as runs/latest leads to another run tomorrow. With `nested`, also
    `root` itself if it is a run, and the runs at any depth; there is none inside a run."""
    if not nested:
        return list({file.parent.resolve(): real_folder(file.parent) for file in root.glob(f"*/{STATE}")}.values())
    runs: dict[Path, Path] = {}
    seen: set[Path] = set()
    to_search = [root] if root.is_dir() else []
    while to_search:
        folder = to_search.pop()
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        if layout.is_run(folder):
            runs[folder.resolve()] = real_folder(folder)
        else:
            to_search += _folders_in(folder)
    return list(runs.values())


def _folders_in(folder: Path) -> list[Path]:
    """None for a folder that this user may not read; of the hidden ones only runs."""
    try:
        entries = [entry for entry in folder.iterdir() if entry.is_dir()]
        return [entry for entry in entries if not entry.name.startswith(".") or layout.is_run(entry)]
    except OSError as error:
        report_note(f"left out: {folder}: {error.strerror}")
        return []


def real_folder(folder: Path) -> Path:
    """The folder itself, also where `folder` is a link to it. Links above it stay as they are written."""
    if not folder.is_symlink():
        return folder
    real, above = folder.resolve(), folder.parent.resolve()
    return folder.parent / real.relative_to(above) if real.is_relative_to(above) else real


def _stage_folders(path: Path) -> list[Path]:
    return [manifest.parent for manifest in (*path.glob(MANIFEST), *path.glob(f"*/{MANIFEST}"))]
