"""The report of a run or of a comparison: one HTML file that needs no network, built only from the folder."""

from pathlib import Path

from drift.errors import DataError
from drift.report.comparison.page import write_comparison_report
from drift.report.comparison.results import RESULTS
from drift.report.page import write_report
from drift.rundir import layout

__all__ = ["report_on", "write_report"]


def report_on(folder: Path) -> Path:
    """Write the report of a run (finished or not) or of a finished comparison. Returns its path.

    Raises DataError if the folder is neither of the two, PrerequisiteError without matplotlib.
    """
    if layout.is_run(folder):
        return write_report(folder)
    if (folder / RESULTS).is_file() or (folder / "cells").is_dir():
        return write_comparison_report(folder)
    raise DataError(f"{folder}: neither a run (run.json) nor a comparison ({RESULTS}). To list all runs: drift runs.")
