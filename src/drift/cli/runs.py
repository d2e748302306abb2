"""Training runs: run, runs, report, export, and the demo that needs no logs."""

from pathlib import Path
from typing import Annotated

import typer

from drift.cli.console import JsonFlag, console, progress, summary, utilities, watching_stages

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, for example configs/real_logs.yaml.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME-HASH if not given.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, for example training.beta=0.2")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ingest, label, pair, warm start, then sample and train, K times. The same command again resumes.

    Example: drift run configs/real_logs.yaml --set logs='\\[chats.json]'
    """
    from drift.config import load_config

    settings = load_config(config, tuple(overrides or ()))  # a typo is told before the seconds that torch takes to load
    from drift.run import run_config

    with watching_stages() as on_stage:
        done = run_config(settings, out, on_stage)
    summary(done, as_json)


def runs(
    root: Annotated[Path, typer.Option(help="Where the runs lie.")] = Path("runs"),
    store: Annotated[Path | None, typer.Option(help="Whose forgotten data to look for; else each run's own.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the runs with their state and headline numbers, and mark those that learned from what was forgotten since.

    Example: drift runs --root runs
    """
    from dataclasses import asdict

    from drift.lineage import forgotten_in
    from drift.rundir import list_runs
    from drift.store import Store

    found = list_runs(root)
    if not found:
        console.print(f"no run in {root}. `drift run CONFIG` makes one; --root says where they lie.", soft_wrap=True)
    marks = {
        path: {"learned_from_forgotten": asdict(mark)}
        for path, mark in forgotten_in(found, store and Store(store)).items()
    }
    summary(
        {str(r.path): {"state": r.state.state, **r.state.headline, **marks.get(r.path, {})} for r in found}, as_json
    )


def report(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or that of a comparison.")],
    as_json: JsonFlag = False,
) -> None:
    """Write the HTML report of a run, finished or not, or of a comparison: arms side by side.

    Example: drift report runs/demo-seed-1
    """
    from drift.report import report_on

    with progress("drawing"):
        written = report_on(path)
    summary({"report": str(written)}, as_json)


def export(
    path: RunPath,
    to: Annotated[Path, typer.Option(help="Where model/, pairs.jsonl and report.html go.")],
    as_json: JsonFlag = False,
) -> None:
    """Copy what others need: the model folder, the pairs in TRL's format and the report.

    Example: drift export runs/demo-seed-1 --to exported
    """
    from drift.report.export import export_run

    summary(export_run(path, to), as_json)


def trace(
    path: RunPath,
    pair_id: Annotated[str, typer.Argument(metavar="PAIR_ID", help="Or a prompt's or a conversation's id.")],
    as_json: JsonFlag = False,
) -> None:
    """Where a pair came from, and what learned from it; with a conversation's id: what came of it.

    Example: drift trace runs/demo-seed-1 4501f386bce20cde
    """
    from drift.cli.shown import show_trace
    from drift.lineage import trace

    show_trace(trace(path, pair_id), as_json)


def demo(
    seed: Annotated[int, typer.Option(help="Of the deployment, the sampling and the training.")] = 1,
    base: Annotated[int, typer.Option(min=1, max=3, help="Which of the three embedded base policies.")] = 1,
    out: Annotated[Path | None, typer.Option(help="The run's folder; else one in runs/ of its own.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """A simulated deployment, end to end, with the true utility of what comes out. About a minute.

    Example: drift demo --seed 2
    """
    from drift.experiments.demo import run_demo

    with watching_stages() as on_stage:
        done = run_demo(seed, base, out, on_stage)
    utilities(done.table)
    summary(done.summary, as_json)
