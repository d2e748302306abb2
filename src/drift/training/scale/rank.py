"""One process of several that train: a launcher starts `python -m drift.training.scale.rank TASK`."""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from drift.errors import DriftError
from drift.progress import listening
from drift.rundir import atomic_write
from drift.training.scale.launch import ERROR, NOTE, PROGRESS, RESULT, RankTask
from drift.training.train import train_here


def main(path: Path) -> int:
    """The exit status. What went wrong is left as a file for the command that waits."""
    task = RankTask.model_validate_json(path.read_text(encoding="utf-8"))
    torch.set_num_threads(max(1, task.threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    try:
        # it also gives every process a device of its own; on the CPU they find each other only if told that it is one
        first = PartialState(cpu=not torch.cuda.is_available()).is_main_process
        with listening(_say_progress, _say) if first else listening(_silent):
            counts = train_here(task)
    except Exception as error:
        kind = type(error).__name__ if isinstance(error, DriftError) else ""
        said = {"kind": kind, "message": str(error) if kind else f"{type(error).__name__}: {error}"}
        atomic_write(task.folder / ERROR, json.dumps(said).encode())
        raise
    if first:
        atomic_write(task.folder / RESULT, json.dumps(counts).encode())
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
    return 0


def _say_progress(done: int, total: int, _tokens: int) -> None:
    _say_line(f"{PROGRESS}{done} {total}")


def _say(text: str) -> None:
    _say_line(f"{NOTE}{text}")


def _say_line(line: str) -> None:
    """The launcher's output is a pipe to the command that waits; it reads these lines."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _silent(_done: int, _total: int, _tokens: int) -> None:
    """Only the first process is heard."""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
