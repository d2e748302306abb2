"""One of several training processes: a launcher starts `python -m drift.training.scale.rank TASK` in each."""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from drift.errors import DriftError
from drift.progress import listening
from drift.rundir import atomic_write
from drift.training.scale.host import end_with_parent, interface_variables
from drift.training.scale.launch import ERROR, NOTE, PROGRESS, RESULT, RankTask
from drift.training.train import train_in_process


def main(path: Path) -> int:
    """Train as `path` (a RankTask) says; returns the exit status. An error is written to a file for the stage."""
    end_with_parent()
    os.environ.update(interface_variables(os.environ))
    task = RankTask.model_validate_json(path.read_text(encoding="utf-8"))
    torch.set_num_threads(max(1, task.threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    try:
        # it also gives each process its own device; without a GPU, processes find each other only if cpu=True
        is_first = PartialState(cpu=not torch.cuda.is_available()).is_main_process
        with listening(_send_progress, _send_note) if is_first else listening(_ignore_progress):
            counts = train_in_process(
                task.out,
                task.start,
                task.reference,
                task.pairs,
                task.settings,
                task.policy_settings,
                task.seed,
                task.own_reference,
            )
    except Exception as error:
        kind = type(error).__name__ if isinstance(error, DriftError) else ""
        failure = {"kind": kind, "message": str(error) if kind else f"{type(error).__name__}: {error}"}
        if kind or not (task.folder / ERROR).exists():  # when one fails, the others lose their connection to it
            atomic_write(task.folder / ERROR, json.dumps(failure).encode())
        raise
    if is_first:
        atomic_write(task.folder / RESULT, json.dumps(counts).encode())
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
    return 0


def _send_progress(done: int, total: int, _tokens: int) -> None:
    _send_line(f"{PROGRESS}{done} {total}")


def _send_note(text: str) -> None:
    _send_line(f"{NOTE}{text}")


def _send_line(line: str) -> None:
    """The output is a pipe to the command that waits, which reads these lines."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _ignore_progress(_done: int, _total: int, _tokens: int) -> None:
    """Only the first process reports."""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
