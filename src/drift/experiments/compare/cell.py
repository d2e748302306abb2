"""One arm on one base with one seed, in a run folder that starts as a copy of what all arms share.

The copy's stages are found finished, as in any resumed run: the deployment's labels, the prompts, the warm start and
its evaluation are made once per base, seed and deployment.
"""

import os
import shutil
from pathlib import Path

from drift.config import Config, IngestionSettings, dump_config
from drift.errors import DataError
from drift.experiments.compare.settings import Cell
from drift.experiments.simulation import hash_of, sandbox_truth, simulate
from drift.loop import drift
from drift.policy.model import source_of
from drift.records import Truth, stable_hash
from drift.run import collect, store_for
from drift.rundir import RunDir, layout
from drift.start import begin
from drift.store import Store

NOT_SHARED = (layout.DEPLOYMENT, layout.STORE, layout.LOCK, layout.WORK)


def shared_run_of(cell: Cell, root: Path) -> Path:
    """The folder of what this cell shares with others: everything that stands before its first iteration."""
    cfg = cell.cfg
    before = (cfg.labels, cfg.sampling, cfg.warm_start, cfg.evaluation, cfg.policy, cell.deployment)
    if cfg.ingestion != IngestionSettings():  # the names of folders that were there before stay as they are
        before = (*before, cfg.ingestion)
    named = stable_hash(*(part.model_dump(mode="json") for part in before), cell.part)
    return root / "shared" / f"{cell.name}-{named[:8]}"


def make_shared_run(cell: Cell, root: Path) -> None:
    """Deploy, ingest, label, find prompts, warm start, evaluate: once for all cells that share it."""
    folder = shared_run_of(cell, root)
    with RunDir.open(folder, dump_config(cell.cfg), cell.seed) as run:
        run.stage(
            layout.DEPLOYMENT, simulate,
            answering=source_of(cell.deployment.model or cell.cfg.policy.model), policy=cell.cfg.policy,
            sampling=cell.cfg.sampling, deployment=cell.deployment, seed=cell.seed,
            world=hash_of(cell.deployment.world),
        )  # fmt: skip
        begin(cell.cfg, run, collect(_fed(cell.cfg, folder), run), truth_of(cell))


def run_cell(cell: Cell, root: Path) -> Path:
    """The cell's run folder, finished. Resumes; a folder that is there is not copied over.

    Raises DataError if the run ended before its last iteration.
    """
    folder = root / "cells" / cell.arm / cell.name
    shared_run = shared_run_of(cell, root)
    if not layout.is_run(folder):
        shutil.rmtree(folder, ignore_errors=True)
        copy = folder.with_name(f".{folder.name}-{os.getpid()}")
        shutil.copytree(shared_run, copy, ignore=shutil.ignore_patterns(*NOT_SHARED))
        copy.rename(folder)
    with RunDir.open(folder, dump_config(cell.cfg), cell.seed) as run:
        drift(cell.cfg, run, store_of(cell, shared_run), truth_of(cell))
        require_all_iterations(folder, cell.cfg.iterations)
    return folder


def require_all_iterations(folder: Path, iterations: int) -> None:
    """Arms are set side by side iteration by iteration. Raises DataError if one is missing."""
    missing = next(
        (k for k in range(1, iterations + 1) if not (folder / f"{layout.iteration(k)}/{layout.EVALUATION}").exists()), 0
    )
    if missing:
        raise DataError(
            f"{folder}: ended before iteration {missing} of {iterations}, for want of pairs or by a stop rule. "
            "Compare fewer iterations, or take recipe.retire_below, recipe.only_wins or stop out of this arm."
        )


def truth_of(cell: Cell) -> Truth:
    return sandbox_truth(cell.part, cell.cfg.evaluation.max_prompts, cell.deployment.world)


def store_of(cell: Cell, shared_run: Path) -> Store:
    """The store of the shared_run's logs as they are now; those of earlier logs may stand beside it."""
    return store_for(_fed(cell.cfg, shared_run), shared_run)


def _fed(cfg: Config, shared_run: Path) -> Config:
    """With the shared_run's deployment for logs."""
    return cfg.model_copy(update={"logs": (str(shared_run / layout.DEPLOYMENT_LOGS),)})
