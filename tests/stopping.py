"""Runs that are stopped where a test has seen enough: evaluation and report are what costs most of a small run."""

from pathlib import Path

import pytest

from drift.config import Config
from drift.run import run_config


def run_until(cfg: Config, folder: Path, stage: str) -> list[tuple[str, str]]:
    """Run a config, and stop it as Ctrl-C does when this stage is done; returns the events of its stages by name."""
    events: list[tuple[str, str]] = []

    def on_stage(name: str, event: str, _: object) -> None:
        events.append((name, event))
        if (name, event) == (stage, "done"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_config(cfg, folder, on_stage)
    return events
