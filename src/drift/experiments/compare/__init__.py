"""`drift compare`: one experiment, many recipes."""

from drift.experiments.compare.run import run_comparison

__all__ = ["run_comparison"]
