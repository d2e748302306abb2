"""The run folder: a stage's outputs appear completely or not at all; while its inputs stay equal, they are reused.

Usage:
    with RunDir.open(Path("runs/demo"), dump_config(cfg), cfg.seed) as run:
        prompts = run.stage(layout.PROMPTS, find_prompts, store=store, settings=cfg.labels, split="train")
        pairs = run.iteration(1).stage(layout.PAIRS, build_pairs, prompts=prompts, ...)
"""

from drift.disk import atomic_write
from drift.rundir.fingerprints import Fingerprinted, StageInput
from drift.rundir.journal import Journal, partial_work
from drift.rundir.manifest import RunState, StageRecord
from drift.rundir.run import OnStage, RunDir, StageFolder, pin_finished
from drift.rundir.view import RunView, list_runs, load_run, read_runs, real_folder, run_of

__all__ = [
    "Fingerprinted",
    "Journal",
    "OnStage",
    "RunDir",
    "RunState",
    "RunView",
    "StageFolder",
    "StageInput",
    "StageRecord",
    "atomic_write",
    "list_runs",
    "load_run",
    "partial_work",
    "pin_finished",
    "read_runs",
    "real_folder",
    "run_of",
]
