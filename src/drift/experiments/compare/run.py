"""`drift compare`: the same logs, labels, prompts, number of pairs and updates for every arm; many seeds and bases."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift.errors import ConfigError
from drift.experiments.compare.cell import make_shared_run, run_cell, shared_run_of
from drift.experiments.compare.results import summarise, write_comparison
from drift.experiments.compare.settings import Arm, Cell, CompareSettings, arms_of, cells_of, load_comparison
from drift.experiments.compare.tuning import ChosenRate, choose_rates, with_rates
from drift.progress import report_note, report_progress
from drift.report.comparison.results import ComparisonResults


@dataclass(frozen=True, slots=True)
class Done:
    """Where the result lies, and the result."""

    folder: Path
    comparison: ComparisonResults


@dataclass(frozen=True, slots=True)
class Restriction:
    """Less than the config asks for: these arms and seeds alone; none named means all. `workers`: other than its."""

    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    workers: int | None = None


ALL = Restriction()


def run_comparison(config: Path, out: Path | None, restricted: Restriction = ALL) -> Done:
    """Run what is missing of a comparison in `out` (else runs/NAME), then write results.json, results.md and figures.

    Raises ConfigError for a wrong config, DataError if an arm ends up without pairs.
    """
    begun = time.monotonic()
    settings, arms = _read(config, restricted.arms)
    folder = out or Path("runs") / settings.name
    cells = cells_of(arms, restricted.seeds or settings.seeds, settings.bases, "test")
    _run_all(cells, folder, restricted.workers or settings.workers)
    differences = [pair for pair in settings.differences if set(pair) <= {arm.name for arm in arms}]
    comparison = summarise(settings.name, cells, folder, differences, time.monotonic() - begun)
    write_comparison(folder, comparison)
    return Done(folder, comparison)


def tune(config: Path, out: Path | None, restricted: Restriction = ALL) -> dict[str, ChosenRate]:
    """The learning rate of each arm that does best on the validation requests, with other seeds than the comparison's.

    Raises ConfigError if the config names no rates, or tunes on the seeds that it reports on.
    """
    settings, arms = _read(config, restricted.arms)
    if not settings.rates:
        raise ConfigError(f"{config}: rates: name the learning rates to choose from, for example rates: [1e-4, 2e-4].")
    if set(settings.tune_seeds) & set(settings.seeds):
        raise ConfigError(f"{config}: tune_seeds: {settings.tune_seeds} overlaps seeds; take others.")
    folder = out or Path("runs") / f"{settings.name}-tune"
    cells = cells_of(with_rates(arms, settings.rates), settings.tune_seeds, settings.tune_bases, "validation")
    _run_all(cells, folder, restricted.workers or settings.workers)
    return choose_rates(cells, folder)


def _read(config: Path, only: Sequence[str]) -> tuple[CompareSettings, list[Arm]]:
    settings = load_comparison(config)
    arms = arms_of(settings)
    unknown = set(only) - {arm.name for arm in arms}
    if unknown:
        raise ConfigError(f"--only {min(unknown)}: no such arm; arms: {', '.join(arm.name for arm in arms)}.")
    return settings, [arm for arm in arms if not only or arm.name in only]


def _run_all(cells: Sequence[Cell], folder: Path, workers: int) -> None:
    """What cells share first, then the cells; processes stay alive, so that torch is loaded once in each."""
    shared_runs = {shared_run_of(cell, folder): cell for cell in cells}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker) as pool:
        _finish(pool, make_shared_run, shared_runs.values(), folder, "shared")
        _finish(pool, run_cell, cells, folder, "arms")


def _finish(
    pool: ProcessPoolExecutor, work: Callable[[Cell, Path], Any], cells: Iterable[Cell], folder: Path, what: str
) -> None:
    waiting = {pool.submit(work, cell, folder): cell for cell in cells}
    try:
        for done, future in enumerate(as_completed(waiting), 1):
            future.result()
            report_progress(done, len(waiting))
            if done == len(waiting):
                report_note(f"{what}: {done} done")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def begin_worker() -> None:
    """Cells are at work beside each other; what each computes must not depend on how many there are."""
    end_with_parent()
    import torch

    torch.set_num_threads(1)


def end_with_parent() -> None:
    """A command that is killed cannot tell its workers to stop: each of them watches for its end."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # no clean-up: what a stage left half done is known by its run folder
