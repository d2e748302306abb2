"""A comparison's config: what all arms share, and what each of them changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from drift.config import Config, DeploymentSettings, Settings, parse_config
from drift.errors import ConfigError

if TYPE_CHECKING:
    from drift.experiments.simulation import Part

Tree = dict[str, Any]


class CompareSettings(Settings):
    """`shared`: settings of every arm, `deployment` among them; `arms`: what each changes. `differences`: pairs of
    arms, the first minus the second. `rates`: the grid of `--tune`, and `tune_seeds` its seeds, none of them `seeds`.
    `workers`: arms at work at once, one thread each.
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


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to learn from the logs of one deployment."""

    name: str
    cfg: Config
    deployment: DeploymentSettings


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm on one base with one seed: `cfg` has both in it. `part`: the held-out requests that measure it."""

    arm: str
    base: str
    seed: int
    cfg: Config
    deployment: DeploymentSettings
    part: "Part"

    @property
    def name(self) -> str:
        return f"{self.base}-seed-{self.seed}"


def load_comparison(path: Path) -> CompareSettings:
    """Raises ConfigError naming the file and the first wrong key; arms are checked by `arms_of`."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        return CompareSettings.model_validate({"name": path.stem, **tree})
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config. `ls configs/` shows those that ship.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = "" if first["type"] == "missing" else f", not {first['input']!r}"
        raise ConfigError(f"{path}: {key}: {first['msg']}{said}; configs/compare.yaml shows a comparison.") from None


def arms_of(settings: CompareSettings) -> list[Arm]:
    """The arms with their resolved configs. Raises ConfigError naming the arm and the key."""
    arms = [_arm(settings, name, tree) for name, tree in settings.arms.items()]
    unknown = {name for pair in settings.differences for name in pair} - {arm.name for arm in arms}
    if unknown:
        raise ConfigError(f"{settings.name}: differences: no arm {min(unknown)!r}; arms: {', '.join(settings.arms)}.")
    return arms


def cells_of(arms: list[Arm], seeds: tuple[int, ...], bases: tuple[str, ...], part: "Part") -> list[Cell]:
    """Every arm on every base with every seed."""
    return [
        Cell(arm.name, base, seed, _placed(arm.cfg, base, seed), arm.deployment, part)
        for base in bases
        for seed in seeds
        for arm in arms
    ]


def _arm(settings: CompareSettings, name: str, tree: Tree) -> Arm:
    merged = merge(settings.shared, tree)
    where = f"{settings.name}: arm {name}"
    try:
        deployment = DeploymentSettings.model_validate(merged.pop("deployment", {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}: deployment.{first['loc'][0]}: {first['msg']}, not {first['input']!r}.") from None
    return Arm(name, parse_config({"stop": {"rule": "none"}, "name": name, **merged}, where), deployment)


def _placed(cfg: Config, base: str, seed: int) -> Config:
    return cfg.model_copy(update={"seed": seed, "policy": cfg.policy.model_copy(update={"model": base})})


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`over` wins, key by key."""
    both = {
        key: merge(under[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(under.get(key), Mapping)
    }
    return {**under, **over, **both}
