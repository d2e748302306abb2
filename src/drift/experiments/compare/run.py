"""`drift compare`: runs every arm on the same logs with the same labels, number of pairs and updates, unless its own
settings say otherwise, on many seeds and bases. `--tune` first chooses each arm's learning rate.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drift.config import Config
from drift.errors import ConfigError
from drift.experiments.compare.cell import (
    logs_run_of,
    make_logs_run,
    make_shared_run,
    run_cell,
    shared_run_of,
    truth_of_other_kinds,
)
from drift.experiments.compare.results import final_scores, summarise, write_comparison
from drift.experiments.compare.settings import Arm, Cell, CompareSettings, arms_of, cells_of, load_comparison
from drift.experiments.compare.workers import workers
from drift.progress import report_note
from drift.report.comparison.results import ComparisonResults

ARM_RATE_SEPARATOR = "@"


@dataclass(frozen=True, slots=True)
class Restriction:
    """Run only a part of the config: these arms and seeds (empty: all). `workers` replaces the config's number."""

    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    workers: int | None = None


ALL = Restriction()


@dataclass(frozen=True, slots=True)
class FinishedComparison:
    folder: Path
    comparison: ComparisonResults


@dataclass(frozen=True, slots=True)
class ChosenRate:
    """The best learning rate of an arm. `utility`: for every rate, the mean utility on validation requests after the
    last iteration, at the first temperature.
    """

    learning_rate: float
    utility: dict[str, float]


def run_comparison(config: Path, out: Path | None, restricted: Restriction = ALL) -> FinishedComparison:
    """Run the cells that are missing in `out` (default runs/NAME), then write results.json, results.md and the report.

    Raises ConfigError for a wrong config, DataError if an arm runs out of pairs.
    """
    started = time.monotonic()
    settings, arms = _read(config, restricted.arms)
    folder = out or Path("runs") / settings.name
    seeds = tuple(dict.fromkeys(restricted.seeds or settings.seeds))
    cells = cells_of(arms, seeds, settings.bases, "test", settings.other_kinds)
    if settings.other_kinds:
        for cell in cells:
            truth_of_other_kinds(cell)  # what is wrong is said now, not after the first run
    _run_all(cells, folder, restricted.workers or settings.workers)
    differences = [pair for pair in settings.differences if set(pair) <= {arm.name for arm in arms}]
    comparison = summarise(settings.name, cells, folder, differences, time.monotonic() - started)
    write_comparison(folder, comparison)
    if restricted.arms or restricted.seeds:
        report_note(
            f"the results are those of the {len(cells)} runs of this command alone. Other finished runs in {folder} "
            "are kept: the command without --only and --seed reports all."
        )
    return FinishedComparison(folder, comparison)


def tune(config: Path, out: Path | None, restricted: Restriction = ALL) -> dict[str, ChosenRate]:
    """Choose each arm's learning rate on the validation requests, with seeds that the comparison does not use.

    Raises ConfigError if the config has no rates, or if `tune_seeds` and `seeds` overlap.
    """
    settings, arms = _read(config, restricted.arms)
    if restricted.seeds:
        raise ConfigError(f"{config}: --seed is not for --tune, which has seeds of its own: set tune_seeds.")
    if not settings.rates:
        raise ConfigError(f"{config}: rates: name the learning rates to choose from, for example rates: [1e-4, 2e-4].")
    if set(settings.tune_seeds) & set(settings.seeds):
        raise ConfigError(f"{config}: tune_seeds: {settings.tune_seeds} overlaps seeds; choose other tune_seeds.")
    folder = out or Path("runs") / f"{settings.name}-tune"
    cells = cells_of(with_rates(arms, settings.rates), settings.tune_seeds, settings.tune_bases, "validation")
    _run_all(cells, folder, restricted.workers or settings.workers)

    utilities: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        arm, rate = cell.arm.split(ARM_RATE_SEPARATOR)
        utilities.setdefault(arm, {}).setdefault(rate, []).append(float(final_scores(cell, folder).mean()))
    means = {
        arm: {rate: round(float(np.mean(values)), 4) for rate, values in by_rate.items()}
        for arm, by_rate in utilities.items()
    }
    return {
        arm: ChosenRate(float(max(by_rate, key=lambda rate: by_rate[rate])), by_rate) for arm, by_rate in means.items()
    }


def with_rates(arms: Sequence[Arm], rates: Sequence[float]) -> list[Arm]:
    """Every arm at every rate, named ARM@RATE, and measured at its first temperature only."""

    def at_rate(cfg: Config, rate: float) -> Config:
        training = cfg.training.model_copy(update={"learning_rate": rate})
        evaluation = cfg.evaluation.model_copy(update={"temperatures": cfg.evaluation.temperatures[:1]})
        return cfg.model_copy(update={"training": training, "evaluation": evaluation})

    return [
        Arm(f"{arm.name}{ARM_RATE_SEPARATOR}{rate:g}", at_rate(arm.cfg, rate), arm.deployment)
        for arm in arms
        for rate in rates
    ]


def _read(config: Path, only: Sequence[str]) -> tuple[CompareSettings, list[Arm]]:
    settings = load_comparison(config)
    arms = arms_of(settings)
    unknown = set(only) - {arm.name for arm in arms}
    if unknown:
        raise ConfigError(
            f"--only {min(unknown)}: no such arm; for several, repeat --only. Arms: "
            f"{', '.join(arm.name for arm in arms)}."
        )
    return settings, [arm for arm in arms if not only or arm.name in only]


def _run_all(cells: Sequence[Cell], folder: Path, count: int) -> None:
    """Run the logs, the warm starts, then the cells."""
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    # one arm after another, so that the cells at work at the same time have different seeds: what one arm has made, the
    # next one with this seed can copy
    cells = sorted(cells, key=lambda cell: arms.index(cell.arm))
    logs_runs = {logs_run_of(cell, folder): cell for cell in cells}
    shared_runs = {shared_run_of(cell, folder): cell for cell in cells}
    with workers(count) as pool:
        pool.run(make_logs_run, list(logs_runs.values()), folder, "logs")
        pool.run(make_shared_run, list(shared_runs.values()), folder, "warm starts")
        pool.run(run_cell, cells, folder, "cells")
