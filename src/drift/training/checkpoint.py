"""Checkpoints in the middle of a training stage: a killed run resumes from the last one and ends in the same bits.

The Trainer writes weights, optimizer, scheduler and random state to `checkpoint-STEP`. A checkpoint counts once it has
the file `complete`, which is written last, after everything else is on the disk, and holds the name of the training.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from accelerate import PartialState
from transformers import TrainerCallback

from drift.disk import files_under, fsync_path
from drift.records import stable_hash
from drift.rundir import atomic_write
from drift.rundir.layout import METRICS

COMPLETE = "complete"

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one training. `plan`: its name; a checkpoint of another plan is ignored."""

    folder: Path
    plan: str

    def latest(self) -> Path | None:
        """The complete checkpoint of the highest step."""
        complete = [path for path in self.folder.glob("checkpoint-*") if self._is_complete(path)]
        return max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)

    def seal(self, checkpoint: Path, rows: Sequence[Row]) -> None:
        """Write the metrics so far, mark the checkpoint as complete, and remove the others."""
        (checkpoint / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        (checkpoint / METRICS).write_bytes(b"".join(map(dump_row, rows)))
        for path in (*files_under(checkpoint), checkpoint, self.folder):
            fsync_path(path)
        atomic_write(checkpoint / COMPLETE, self.plan.encode())
        for other in self.folder.glob("checkpoint-*"):
            if other != checkpoint:
                shutil.rmtree(other)

    def _is_complete(self, path: Path) -> bool:
        marker = path / COMPLETE
        return marker.is_file() and marker.read_text(encoding="utf-8") == self.plan


class KeepCheckpoints(TrainerCallback):
    """Seals what the Trainer saves. `rows`: the metrics written so far; the list grows while training."""

    def __init__(self, checkpoints: Checkpoints, rows: Sequence[Row]):
        self.checkpoints = checkpoints
        self.rows = rows

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False  # after the last step the policy itself is written

    def on_save(self, args, state, control, **kwargs) -> None:
        PartialState().wait_for_everyone()  # each process writes its own random state
        if state.is_world_process_zero:
            self.checkpoints.seal(self.checkpoints.folder / f"checkpoint-{state.global_step}", self.rows)
        PartialState().wait_for_everyone()


def training_plan(reference: Path, *settings: object) -> str:
    """A name for a training: a hash of the reference file (it names weights, tokenizer and pairs) and of `settings`."""
    return stable_hash(hashlib.sha256(reference.read_bytes()).hexdigest(), *settings)


def read_rows(checkpoint: Path) -> list[Row]:
    return [orjson.loads(line) for line in (checkpoint / METRICS).read_bytes().splitlines()]


def dump_row(row: Row) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
