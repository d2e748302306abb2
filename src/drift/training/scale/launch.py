"""Training in several processes: a launcher (torchrun, accelerate launch) starts them for the one training stage.

The stage waits, and shows what the first process says. Whatever else a run does stays in one process.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from drift import errors
from drift.config import PolicySettings, TrainerSettings
from drift.errors import DriftError, PrerequisiteError
from drift.progress import report_note, report_progress
from drift.rundir import partial_work

TASK, RESULT, ERROR, LOG = "task.json", "result.json", "error.json", "processes.log"
PROGRESS, NOTE = "drift-progress ", "drift-note "


class RankTask(BaseModel):
    """What this process, or each of several, is told: the arguments of `train`.

    `threads`: on the CPU, for all processes together.
    """

    model_config = ConfigDict(frozen=True)

    out: Path
    start: str
    reference: Path
    pairs: Path
    settings: TrainerSettings
    policy: PolicySettings
    seed: int
    threads: int

    @property
    def folder(self) -> Path:
        return partial_work(self.out)


def train_by(launcher: str, task: RankTask) -> dict[str, int | float]:
    """Run the task under `launcher`; returns the counts.

    Raises the DriftError of a process as its own, PrerequisiteError if there is no such launcher, DriftError with the
    place of the log if a process ended otherwise.
    """
    for name in (RESULT, ERROR):
        (task.folder / name).unlink(missing_ok=True)
    path = task.folder / TASK
    path.write_text(task.model_dump_json(), encoding="utf-8")
    command = [*shlex.split(launcher), "-m", "drift.training.scale.rank", str(path)]
    with (task.folder / LOG).open("wb") as log:
        status = _run(command, log.fileno())
    if (task.folder / RESULT).exists() and status == 0:
        return json.loads((task.folder / RESULT).read_text(encoding="utf-8"))
    raise _failure(task.folder, launcher, status)


def without_loop_settings(settings: TrainerSettings) -> TrainerSettings:
    """Without what a subclass adds for the loop."""
    return TrainerSettings(**{name: getattr(settings, name) for name in TrainerSettings.model_fields})


def threads() -> int:
    return torch.get_num_threads()


def _run(command: list[str], log: int) -> int:
    """The launcher's exit status. It ends with us: a first process that is not listened to stops at its next step."""
    # a launcher of the same environment is found even if that is not activated
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
            _pass_on(line)
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _pass_on(line: str) -> None:
    if line.startswith(PROGRESS):
        done, total = line.removeprefix(PROGRESS).split()
        report_progress(int(done), int(total))
    elif line.startswith(NOTE):
        report_note(line.removeprefix(NOTE).strip())


def _failure(folder: Path, launcher: str, status: int) -> DriftError:
    if (folder / ERROR).exists():
        said = json.loads((folder / ERROR).read_text(encoding="utf-8"))
        kind = getattr(errors, said["kind"], None)
        if kind is not None:
            return kind(said["message"])
        return DriftError(f"a process of training.launch={launcher!r} failed: {said['message']}; log: {folder / LOG}")
    return DriftError(f"training.launch={launcher!r} ended with status {status}; log: {folder / LOG}")
