"""`drift` as the command line runs it, but in this process: one of its own would load torch and DuckDB for each
command, which takes seconds. The tests that are about the process itself (its imports, its signals) start one."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from drift.cli import main


def drift(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The exit status and everything that the command wrote. An exception that it does not handle fails the test."""
    command = ["drift", *map(str, arguments)]
    out, err, former = io.StringIO(), io.StringIO(), sys.argv
    place = contextlib.chdir(cwd) if cwd else contextlib.nullcontext()
    status: object = 0
    try:
        sys.argv = command
        with place, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv = former
    assert status is None or isinstance(status, int), status
    return subprocess.CompletedProcess(command, status or 0, out.getvalue(), err.getvalue())
