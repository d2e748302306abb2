"""Experiments in the sandbox: compare."""

from pathlib import Path
from typing import Annotated

import typer

from drift.cli.console import JsonFlag, comparison, progress, summary


def compare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, for example configs/compare.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Where runs and results go; runs/NAME if not given.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="These arms alone.")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="These seeds alone, now.")] = None,
    tune: Annotated[bool, typer.Option(help="Choose each arm's learning rate on validation requests instead.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at once, one thread each.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Many recipes on the same simulated logs, with the true utility of each. The same command again resumes.

    Example: drift compare configs/compare.yaml --only drift_guided --only spin
    """
    from drift.experiments.compare.settings import arms_of, load_comparison

    arms_of(load_comparison(config))  # what is wrong with it is told before torch is loaded, which takes seconds
    from drift.experiments.compare import run as compare_run

    restricted = compare_run.Restriction(tuple(only or ()), tuple(seeds or ()), workers)
    with progress("comparing"):
        if tune:
            chosen = compare_run.tune(config, out, restricted)
            summary({arm: {"learning_rate": c.learning_rate, **c.utility} for arm, c in chosen.items()}, as_json)
            return
        done = compare_run.run_comparison(config, out, restricted)
    comparison(done, as_json)
