"""The command line: each command is one call into the program. Nothing heavy is imported before it is needed."""

import sys

import typer

from drift.cli import bench, data, runs
from drift.errors import DriftError

app = typer.Typer(
    name="drift",
    help="Chat logs of a deployed assistant in, a better model out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (data.ingest, data.label, data.pairs, runs.run, runs.runs, runs.report, runs.export, runs.demo):
    app.command()(command)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Exit codes: 0 done, 1 a DriftError, 2 wrong usage, 130 interrupted."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        return app(standalone_mode=False) or 0
    except DriftError as error:
        typer.echo(f"drift: {error}", err=True)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("drift: interrupted; the same command goes on from here.", err=True)
        return 130
    except Exception as error:
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show()  # wrong usage, as the command line library words it
        return error.exit_code
