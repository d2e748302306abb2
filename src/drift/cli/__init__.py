"""The command line. Each command is one call into the program; heavy modules are imported when a command needs them."""

import sys
from typing import Annotated

import typer

import drift
from drift.cli import bench, data, evaluate, experiments, gate, labels, privacy, runs
from drift.errors import DriftError, disk_trouble

INTERRUPTED = 130
TRAIN_EXTRA = {"torch", "transformers", "accelerate", "peft", "matplotlib"}

app = typer.Typer(
    name="drift",
    help="Chat logs of a deployed assistant in, a better model out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    data.ingest,
    labels.label,
    data.pairs,
    runs.run,
    runs.runs,
    runs.report,
    gate.gate,
    runs.export,
    runs.trace,
    experiments.demo,
    experiments.compare,
    labels.review,
    labels.live,
    privacy.audit_privacy,
    privacy.forget,
):
    app.command()(command)
app.add_typer(bench.app, name="bench")
app.add_typer(evaluate.app, name="eval")
app.add_typer(labels.rubric_app, name="rubric")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"drift {drift.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print drift's version.")
    ] = False,
) -> None:
    """Options without a command; `_show_version` acts on them."""


def main() -> None:
    """Exit codes: 0 done, 1 a DriftError, 2 wrong usage, 3 and 4 by `drift gate` and `drift live`, 130 interrupted."""
    try:
        app()
    except DriftError as error:
        typer.echo(f"drift: {error}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name not in TRAIN_EXTRA:
            raise
        typer.echo(f"drift: {error.name} is missing; install it: pip install 'drift-training[train]'", err=True)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("drift: interrupted. Run the same command again to resume.", err=True)
        raise
    except Exception as error:
        message = disk_trouble(error)
        if message is None:
            raise
        typer.echo(f"drift: {message}", err=True)
        sys.exit(1)
