"""Training in several processes: the launcher in `training.launch` (torchrun, accelerate launch) starts them.

Only the training stage does so; everything else of a run stays in one process. The stage writes its arguments as a
RankTask, waits, and passes on the progress and the notes of the first process.
"""

import json
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from drift import errors
from drift.config import PolicySettings, TrainerSettings
from drift.engine import current_engine
from drift.errors import DriftError, PrerequisiteError
from drift.progress import report_note, report_progress
from drift.rundir import partial_work
from drift.training.scale.nodes import train_on_nodes

TASK, RESULT, ERROR, LOG = "task.json", "result.json", "error.json", "processes.log"
PROGRESS, NOTE = "drift-progress ", "drift-note "
"""How a line of the first process's output begins that is meant for the waiting command."""


class RankTask(BaseModel):
    """The arguments of `train` for each process. `threads`: CPU threads for all processes together."""

    model_config = ConfigDict(frozen=True)

    out: Path
    start: str
    reference: Path
    pairs: Path
    settings: TrainerSettings
    policy_settings: PolicySettings
    seed: int
    own_reference: bool
    threads: int

    @property
    def folder(self) -> Path:
        return partial_work(self.out)


def train_by(launcher: str, task: RankTask) -> dict[str, int | float]:
    """Run the task under `launcher`; returns the stage's counts.

    Raises a DriftError of a process as its own kind, PrerequisiteError if the launcher is not installed, DriftError
    with the path of the log if a process failed otherwise.
    """
    for name in (RESULT, ERROR):
        (task.folder / name).unlink(missing_ok=True)
    path = task.folder / TASK
    path.write_text(task.model_dump_json(), encoding="utf-8")
    command = ["drift.training.scale.rank", str(path)]
    nodes = current_engine().together
    if nodes is not None:
        train_on_nodes(nodes, launcher, command, task.folder, _hear, partial(_trouble, task.folder))
        return _result(task.folder)
    with (task.folder / LOG).open("wb") as log:
        status = _run([*shlex.split(launcher), "-m", *command], log.fileno())
    if (task.folder / RESULT).exists() and status == 0:
        return _result(task.folder)
    raise _failure(task.folder, launcher, status)


def _result(folder: Path) -> dict[str, int | float]:
    return json.loads((folder / RESULT).read_text(encoding="utf-8"))


def _trouble(folder: Path) -> str | None:
    """Why a training over nodes has no result, empty if no process told; None if it has one.

    Raises the DriftError of a process: another attempt would meet it too.
    """
    if (folder / RESULT).exists():
        return None
    if not (folder / ERROR).exists():
        return ""
    failure = json.loads((folder / ERROR).read_text(encoding="utf-8"))
    if hasattr(errors, failure["kind"]):
        raise _failure(folder, "", 1)
    (folder / ERROR).unlink()  # likely of a process whose partner was lost
    return failure["message"]


def without_loop_settings(settings: TrainerSettings) -> TrainerSettings:
    """The trainer's own settings, without those that a subclass adds for the loop (`training.reference`)."""
    return TrainerSettings(**{name: getattr(settings, name) for name in TrainerSettings.model_fields})


def _run(command: list[str], log: int) -> int:
    """The launcher's exit status. It is ended with this process; `log`: the file descriptor of its stderr."""
    # a launcher of this environment is found even if the environment is not activated
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PATH": path},
        )
    except OSError as error:
        raise PrerequisiteError(
            f"training.launch {command[0]!r}: {error.strerror}. `torchrun` comes with torch, `accelerate` with "
            "accelerate: pip install 'drift-training[train]'"
        ) from None
    try:
        for line in process.stdout or ():
            _hear(line)
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _hear(line: str) -> None:
    """Pass on a line of the first process."""
    if line.startswith(PROGRESS):
        done, total = line.removeprefix(PROGRESS).split()
        report_progress(int(done), int(total))
    elif line.startswith(NOTE):
        report_note(line.removeprefix(NOTE).strip())


def _failure(folder: Path, launcher: str, status: int) -> DriftError:
    if (folder / ERROR).exists():
        failure = json.loads((folder / ERROR).read_text(encoding="utf-8"))
        kind = getattr(errors, failure["kind"], None)
        if kind is not None:
            return kind(failure["message"])
        return DriftError(
            f"a process of training.launch={launcher!r} failed: {failure['message']}; log: {folder / LOG}"
        )
    return DriftError(f"training.launch={launcher!r} ended with status {status}; log: {folder / LOG}")
