"""What the run folders of a comparison add to its results: each arm's own settings, and what it dropped.

A comparison's folder may have come without its cells (`results/compare`): then there is nothing here to tell.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drift.report.comparison.results import ComparisonResults
from drift.rundir import RunView, load_run
from drift.rundir.manifest import read_manifest

OF_A_RUN = ("name", "seed", "output", "logs", "store", "policy.model")
"""Settings by which the runs of one arm differ, or that say nothing about the arm."""


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """`own`: the settings that not all arms have, or not with this value; `drops`: rows by reason, summed over runs and
    iterations; `runs`: how many of its runs were found."""

    own: dict[str, str] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """`shared`: the settings of every arm, as YAML; `drops`: of what stands before the arms part, by reason."""

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
    settings = {arm: _settings(found[0]) for arm, found in runs.items()}
    common = _common(settings.values())
    last = next(iter(runs.values()))[0].stages[-1]
    return Facts(
        arms={
            arm: ArmFacts(
                own={k: str(value) for k, value in settings[arm].items() if k not in common and value is not None},
                drops=_drops(found, in_iterations=True),
                runs=len(found),
            )
            for arm, found in runs.items()
        },
        shared=yaml.safe_dump(_nested(common), sort_keys=False, allow_unicode=True),
        code=last.code_version,
        packages=last.packages,
        drops=_drops(next(iter(runs.values())), in_iterations=False),
    )


def _runs(folder: Path, names: Iterable[str]) -> Iterable[RunView]:
    return (load_run(folder / name) for name in names if (folder / name / "run.json").is_file())


def _settings(run: RunView) -> dict[str, Any]:
    """Flat, by dotted name; the deployment's are in the manifest of its stage."""
    deployment = read_manifest(run.path).stages.get("deployment")
    given = deployment.inputs.get("deployment") if deployment else None
    tree = {**(yaml.safe_load(run.config_yaml) or {}), **({"deployment": given.value} if given else {})}
    return {key: value for key, value in _flat(tree) if key not in OF_A_RUN}


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _common(settings: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What all arms have, with one value."""
    first, *others = settings
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}


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
    found: Counter[str] = Counter()
    for run in runs:
        for stage in run.stages:
            if stage.name.startswith("iteration-") == in_iterations:
                dropped = {key: n for key, n in stage.counts.items() if key.startswith("dropped.") and n}
                found.update({key.removeprefix("dropped."): int(n or 0) for key, n in dropped.items()})
    return dict(found.most_common())
