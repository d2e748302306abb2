"""Runs one cell of a comparison: one arm on one base policy with one seed.

What precedes the first iteration is the same for many arms and computed once, in two shared runs: the logs with their
labels; then the warm start with its evaluation. Each starts as a copy of the one before, and so does a cell's folder.
A later stage that another arm has made of equal inputs is copied: arms that differ in their scorer share fresh replies.
"""

import os
import shutil
from pathlib import Path

from drift.config import Config, Settings, dump_config
from drift.disk import link_or_copy
from drift.errors import ConfigError, DataError, NothingToTrainOn
from drift.experiments.compare.settings import Cell
from drift.experiments.compare.stages import measure_distance, measure_other_kinds, with_other_kinds
from drift.experiments.packaged import local_model
from drift.experiments.simulation import sandbox_truth, simulate, world_hash_of
from drift.loop import drift
from drift.policy.model import source_of
from drift.records import Truth, stable_hash
from drift.run import build_funnel, collect, funnel_line, store_for, with_date
from drift.rundir import OnStage, RunDir, StageFolder, layout, load_run
from drift.start import base_model, begin
from drift.store import Store

NOT_COPIED = (layout.DEPLOYMENT, layout.STORE, layout.LOCK, layout.WORK)


def logs_run_of(cell: Cell, root: Path) -> Path:
    """The folder of the run that made this cell's logs, their store and its labels."""
    return _shared(cell, root, "logs", _what_logs_depend_on(cell))


def shared_run_of(cell: Cell, root: Path) -> Path:
    """The folder of the shared run of this cell: what the logs depend on, the warm start and the evaluation."""
    cfg = cell.cfg
    believed = (cfg.recipe.own_majority,) if cfg.recipe.own_majority else ()
    settings = (*_what_logs_depend_on(cell), cfg.warm_start, cfg.evaluation, cell.part, *believed)
    return _shared(cell, root, "start", settings)


def _what_logs_depend_on(cell: Cell) -> tuple[object, ...]:
    cfg = cell.cfg
    policy = cfg.policy.model_copy(update={"model": cell.base})  # a packaged model lies elsewhere on each machine
    return cfg.ingestion, cfg.labels, cfg.sampling, policy, cell.deployment


def _shared(cell: Cell, root: Path, what: str, settings: tuple[object, ...]) -> Path:
    parts = [part.model_dump(mode="json") if isinstance(part, Settings) else part for part in settings]
    return root / "shared" / f"{cell.name}-{what}-{stable_hash(*parts)[:8]}"


def make_logs_run(cell: Cell, root: Path, on_stage: OnStage | None = None) -> None:
    """The logs of the simulated deployment, their store and its labels, once for all cells that share them. Resumes."""
    folder = logs_run_of(cell, root)
    with RunDir.open(folder, dump_config(cell.cfg), cell.seed, on_stage) as run:
        base, other = base_model(cell.cfg, run), cell.deployment.model
        run.stage(
            layout.DEPLOYMENT, simulate,
            answering=source_of(local_model(other)) if other else base, policy=cell.cfg.policy,
            sampling=cell.cfg.sampling, deployment=cell.deployment, seed=cell.seed,
            world=world_hash_of(cell.deployment.world),
        )  # fmt: skip
        collect(_with_logs(cell.cfg, folder), run)


def make_shared_run(cell: Cell, root: Path, on_stage: OnStage | None = None) -> None:
    """Warm start and first evaluations, once for all cells that share them. Resumes."""
    folder = _begun_as_copy(logs_run_of(cell, root), shared_run_of(cell, root))
    with RunDir.open(folder, dump_config(cell.cfg), cell.seed, on_stage) as run:
        begin(with_date(cell.cfg, run), run, store_of(cell, root), truth_of(cell))
        _measure_base(cell, run)


def run_cell(cell: Cell, root: Path, on_stage: OnStage | None = None) -> Path:
    """Run the cell to its end and return its run folder. An existing run folder resumes and is not copied again.

    Raises DataError if the run ended before its last iteration.
    """
    folder = _begun_as_copy(shared_run_of(cell, root), cell.folder(root))

    def other_arms() -> list[Path]:
        return [other for other in sorted(root.glob(f"cells/*/{folder.name}")) if other != folder]

    with RunDir.open(folder, dump_config(cell.cfg), cell.seed, on_stage, other_arms) as run:
        store = store_of(cell, root)
        try:
            drift(with_date(cell.cfg, run), run, store, truth_of(cell))
        except NothingToTrainOn as error:
            raise DataError(f"{error} The funnel: {funnel_line(build_funnel(store, load_run(folder)))}") from None
        require_all_iterations(folder, cell.cfg.iterations)
        if cell.part == "test":  # tuning reads the utility alone
            _measure_beside(cell, run)
    return folder


def _measure_base(cell: Cell, run: RunDir) -> Path | str:
    """The base policy, measured on other kinds of requests if the comparison asks for it."""
    base = base_model(cell.cfg, run)
    _measure_other_kinds(cell, run.folder(layout.BASE), base)
    return base


def _measure_beside(cell: Cell, run: RunDir) -> None:
    """What no run measures: how far the last policy is from the base, and what it does with other kinds of requests."""
    base = _measure_base(cell, run)
    last = run.path / layout.iteration(cell.cfg.iterations)
    compared = run.folder(layout.COMPARED)
    compared.stage(
        layout.DISTANCE, measure_distance, policy=last / layout.POLICY, base=base,
        evaluation=last / layout.EVALUATION, policy_settings=cell.cfg.policy,
        max_length=cell.cfg.evaluation.max_length,
    )  # fmt: skip
    _measure_other_kinds(cell, compared, last / layout.POLICY)


def _measure_other_kinds(cell: Cell, folder: StageFolder, policy: Path | str) -> None:
    if cell.other_kinds:
        folder.stage(
            layout.OTHER_KINDS, measure_other_kinds, policy=policy, truth=truth_of_other_kinds(cell),
            settings=cell.cfg.evaluation, sampling=cell.cfg.sampling, policy_settings=cell.cfg.policy, seed=cell.seed,
        )  # fmt: skip


def _begun_as_copy(source: Path, folder: Path) -> Path:
    """The run folder `folder`, at first a copy of the run `source`; weights are links, as no stage changes them."""
    if not layout.is_run(folder):
        shutil.rmtree(folder, ignore_errors=True)
        # copied beside its place and then renamed: an interrupted copy never looks like a run
        copy = folder.with_name(f".{folder.name}-{os.getpid()}")
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*NOT_COPIED), copy_function=link_or_copy)
        copy.rename(folder)
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
    deployment = cell.deployment
    return sandbox_truth(cell.part, cell.cfg.evaluation.max_prompts, deployment.world, deployment.users)


def truth_of_other_kinds(cell: Cell) -> Truth:
    """The held-out requests that no user of the logs makes. Raises ConfigError outside the instructions world."""
    deployment = cell.deployment
    if deployment.world != "instructions":
        raise ConfigError(f"other_kinds: the world {deployment.world} has no kinds of requests; set 0.")
    return sandbox_truth(cell.part, cell.other_kinds, deployment.world, with_other_kinds(deployment.users))


def store_of(cell: Cell, root: Path) -> Store:
    """The store of the cell's logs as they are now. Stores of earlier logs may stand beside it."""
    logs_run = logs_run_of(cell, root)
    return store_for(_with_logs(cell.cfg, logs_run), logs_run)


def _with_logs(cfg: Config, logs_run: Path) -> Config:
    """The config, with the logs of the deployment in this run."""
    return cfg.model_copy(update={"logs": (str(logs_run / layout.DEPLOYMENT_LOGS),)})
