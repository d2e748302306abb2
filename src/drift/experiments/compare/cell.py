"""Runs one cell of a comparison: one arm on one base policy with one seed.

Everything before the first iteration (the deployment, labels, prompts, the warm start and its evaluation) is the same
for many arms. It is computed once, in a shared run; each cell's run folder starts as a copy of it and resumes there.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from drift.config import Config, IngestionSettings, PolicySettings, Settings, dump_config
from drift.errors import DataError
from drift.experiments.compare.settings import Cell
from drift.experiments.simulation import sandbox_truth, simulate, world_hash_of
from drift.loop import drift
from drift.policy.model import source_of
from drift.records import Truth, stable_hash
from drift.run import collect, store_for, with_date
from drift.rundir import RunDir, layout
from drift.start import begin
from drift.store import Store

NOT_SHARED = (layout.DEPLOYMENT, layout.STORE, layout.LOCK, layout.WORK)


def shared_run_of(cell: Cell, root: Path) -> Path:
    """The folder of the shared run of this cell. Cells share it if they agree in every setting that it depends on."""
    cfg = cell.cfg
    settings = (cfg.labels, cfg.sampling, cfg.warm_start, cfg.evaluation, cfg.policy, cell.deployment)
    if cfg.ingestion != IngestionSettings():  # the default is left out, so that folders of earlier versions are found
        settings = (*settings, cfg.ingestion)
    settings_hash = stable_hash(*map(_json, settings), cell.part)
    return root / "shared" / f"{cell.name}-{settings_hash[:8]}"


def _json(section: Settings) -> dict[str, Any]:
    """A section as earlier versions wrote it, so that their folders are found, unless a newer setting is in use."""
    newer = ("thinking", "template_arguments", "date") if isinstance(section, PolicySettings) else ()
    defaults = PolicySettings().model_dump(mode="json")
    dumped = section.model_dump(mode="json")
    return {name: value for name, value in dumped.items() if name not in newer or value != defaults[name]}


def make_shared_run(cell: Cell, root: Path) -> None:
    """Everything before the first iteration, once for all cells that share it. Resumes."""
    shared_run = shared_run_of(cell, root)
    with RunDir.open(shared_run, dump_config(cell.cfg), cell.seed) as run:
        run.stage(
            layout.DEPLOYMENT, simulate,
            answering=source_of(cell.deployment.model or cell.cfg.policy.model), policy=cell.cfg.policy,
            sampling=cell.cfg.sampling, deployment=cell.deployment, seed=cell.seed,
            world=world_hash_of(cell.deployment.world),
        )  # fmt: skip
        begin(with_date(cell.cfg, run), run, collect(_with_logs(cell.cfg, shared_run), run), truth_of(cell))


def run_cell(cell: Cell, root: Path) -> Path:
    """Run the cell to its end and return its run folder. An existing run folder resumes and is not copied again.

    Raises DataError if the run ended before its last iteration.
    """
    folder = cell.folder(root)
    shared_run = shared_run_of(cell, root)
    if not layout.is_run(folder):
        shutil.rmtree(folder, ignore_errors=True)
        # copied beside its place and then renamed: an interrupted copy never looks like a run
        copy = folder.with_name(f".{folder.name}-{os.getpid()}")
        shutil.copytree(shared_run, copy, ignore=shutil.ignore_patterns(*NOT_SHARED))
        copy.rename(folder)
    with RunDir.open(folder, dump_config(cell.cfg), cell.seed) as run:
        drift(with_date(cell.cfg, run), run, store_of(cell, shared_run), truth_of(cell))
        require_all_iterations(folder, cell.cfg.iterations)
    return folder


def require_all_iterations(folder: Path, iterations: int) -> None:
    """Raises DataError if an iteration has no evaluation: arms are compared iteration by iteration."""
    for k in range(1, iterations + 1):
        if not (folder / layout.iteration(k) / layout.EVALUATION).exists():
            raise DataError(
                f"{folder}: ended before iteration {k} of {iterations}: no pairs were left, or a stop rule ended it. "
                "Compare fewer iterations, or remove recipe.retire_below, recipe.only_wins or stop from this arm."
            )


def truth_of(cell: Cell) -> Truth:
    return sandbox_truth(cell.part, cell.cfg.evaluation.max_prompts, cell.deployment.world)


def store_of(cell: Cell, shared_run: Path) -> Store:
    """The store of the shared run's logs as they are now. Stores of earlier logs may stand beside it."""
    return store_for(_with_logs(cell.cfg, shared_run), shared_run)


def _with_logs(cfg: Config, shared_run: Path) -> Config:
    """The config, with the logs of the shared run's deployment."""
    return cfg.model_copy(update={"logs": (str(shared_run / layout.DEPLOYMENT_LOGS),)})
