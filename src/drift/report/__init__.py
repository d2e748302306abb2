"""The report of a run: one HTML file that needs no network, made from the run folder alone."""

from drift.report.page import write_report

__all__ = ["write_report"]
