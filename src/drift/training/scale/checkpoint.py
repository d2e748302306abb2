"""Checkpoints in the middle of a training stage: a killed run goes on from the last one and ends in the same bits.

The Trainer writes weights, optimizer, scheduler and random state to `checkpoint-STEP`. A checkpoint counts once its
file `complete` is there: it is written last, after everything else is on the disk, and says what the training is of.
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

METRICS, COMPLETE = "metrics.jsonl", "complete"

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """`plan`: names the training; a checkpoint of another one is of no use."""

    folder: Path
    plan: str

    def latest(self) -> Path | None:
        """The last complete one."""
        found = [path for path in self.folder.glob("checkpoint-*") if self._is_ours(path)]
        return max(found, key=_step, default=None)

    def seal(self, checkpoint: Path, rows: Sequence[Row]) -> None:
        """Make it count, with the metrics so far, and remove the others."""
        (checkpoint / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        (checkpoint / METRICS).write_bytes(b"".join(map(dump_row, rows)))
        for path in (*files_under(checkpoint), checkpoint, self.folder):
            fsync_path(path)
        atomic_write(checkpoint / COMPLETE, self.plan.encode())
        for other in self.folder.glob("checkpoint-*"):
            if other != checkpoint:
                shutil.rmtree(other)

    def _is_ours(self, path: Path) -> bool:
        mark = path / COMPLETE
        return mark.is_file() and mark.read_text(encoding="utf-8") == self.plan


class KeepCheckpoints(TrainerCallback):
    """Seals what the Trainer saves. `rows`: the metrics written so far; the list grows while training."""

    def __init__(self, checkpoints: Checkpoints, rows: Sequence[Row]):
        self.checkpoints = checkpoints
        self.rows = rows

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False  # the policy itself is written next

    def on_save(self, args, state, control, **kwargs) -> None:
        PartialState().wait_for_everyone()  # each process writes its own random state
        if state.is_world_process_zero:
            self.checkpoints.seal(self.checkpoints.folder / f"checkpoint-{state.global_step}", self.rows)
        PartialState().wait_for_everyone()


def training_plan(reference: Path, *what: object) -> str:
    """A name for a training: the reference's file (it names weights, tokenizer and pairs) and whatever else counts."""
    return stable_hash(hashlib.sha256(reference.read_bytes()).hexdigest(), *what)


def read_rows(checkpoint: Path) -> list[Row]:
    return [orjson.loads(line) for line in (checkpoint / METRICS).read_bytes().splitlines()]


def dump_row(row: Row) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
