"""What the run folders of a comparison add to its results: each arm's own settings, and its dropped rows.

A comparison may have been copied without its cells (`results/compare`): then this part of the report is empty.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drift.report.comparison.results import ComparisonResults
from drift.rundir import RunView, layout, load_run
from drift.rundir.manifest import read_manifest

RUN_SETTINGS = ("name", "seed", "output", "logs", "store", "policy.model")
"""Settings that differ between the runs of one arm, or say nothing about the arm."""


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """`own`: settings that other arms do not have, or have with another value; `drops`: by reason, summed over runs and
    iterations; `runs`: how many of its run folders exist."""

    own: dict[str, str] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """`shared`: the settings that all arms share, as YAML; `drops`: rows by reason, before the first
    iteration, summed over the runs of the first arm."""

    arms: dict[str, ArmFacts]
    shared: str | None = None
    code: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)


def read_facts(folder: Path, comparison: ComparisonResults) -> Facts:
    """From `folder`/cells. Raises DataError for a damaged manifest."""
    runs = {arm: list(_runs(folder / "cells" / arm, comparison.runs)) for arm in comparison.arms}
    if not all(runs.values()):
        return Facts({arm: ArmFacts() for arm in comparison.arms})
    settings = {arm: _settings(views[0]) for arm, views in runs.items()}
    common = _common(settings.values())
    last = next(iter(runs.values()))[0].stages[-1]
    return Facts(
        arms={
            arm: ArmFacts(
                own={k: str(value) for k, value in settings[arm].items() if k not in common and value is not None},
                drops=_drops(views, in_iterations=True),
                runs=len(views),
            )
            for arm, views in runs.items()
        },
        shared=yaml.safe_dump(_nested(common), sort_keys=False, allow_unicode=True),
        code=last.code_version,
        packages=last.packages,
        drops=_drops(next(iter(runs.values())), in_iterations=False),
    )


def _runs(folder: Path, names: Iterable[str]) -> Iterable[RunView]:
    """Those of them that have a finished stage."""
    views = (load_run(folder / name) for name in names if layout.is_run(folder / name))
    return (view for view in views if view.stages)


def _settings(run: RunView) -> dict[str, Any]:
    """Flat, by dotted name. The deployment's settings are an input of its stage, in the manifest."""
    stage = read_manifest(run.path).stages.get("deployment")
    deployment = stage.inputs.get("deployment") if stage else None
    tree = {**(yaml.safe_load(run.config_yaml) or {}), **({"deployment": deployment.value} if deployment else {})}
    return {key: value for key, value in _flat(tree) if key not in RUN_SETTINGS}


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _common(settings: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Settings that all arms have, with the same value."""
    first, *others = settings
    return {key: value for key, value in first.items() if all(key in arm and arm[key] == value for arm in others)}


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return tree


def _drops(runs: Iterable[RunView], in_iterations: bool) -> dict[str, int]:
    drops: Counter[str] = Counter()
    for run in runs:
        for stage in run.stages:
            if (layout.iteration_of(stage.name) is not None) == in_iterations and not layout.is_guidance(stage.name):
                dropped = {key: n for key, n in stage.counts.items() if key.startswith("dropped.") and n}
                drops.update({key.removeprefix("dropped."): int(n or 0) for key, n in dropped.items()})
    return dict(drops.most_common())
