"""Learning rates, per arm, from one grid: the best utility on validation requests after the last iteration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drift.config import Config
from drift.experiments.compare.results import final_scores
from drift.experiments.compare.settings import Arm, Cell

AT = "@"


@dataclass(frozen=True, slots=True)
class ChosenRate:
    """`utility`: mean validation utility at temperature 1 by rate, after the last iteration."""

    learning_rate: float
    utility: dict[str, float]


def with_rates(arms: Sequence[Arm], rates: Sequence[float]) -> list[Arm]:
    """Every arm at every rate, as NAME@RATE, measured at its first temperature alone."""
    return [Arm(f"{arm.name}{AT}{rate:g}", _at_rate(arm.cfg, rate), arm.deployment) for arm in arms for rate in rates]


def _at_rate(cfg: Config, rate: float) -> Config:
    training = cfg.training.model_copy(update={"learning_rate": rate})
    evaluation = cfg.evaluation.model_copy(update={"temperatures": cfg.evaluation.temperatures[:1]})
    return cfg.model_copy(update={"training": training, "evaluation": evaluation})


def choose_rates(cells: Sequence[Cell], folder: Path) -> dict[str, ChosenRate]:
    found: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        arm, rate = cell.arm.split(AT)
        mean = float(final_scores(cell, folder).mean())
        found.setdefault(arm, {}).setdefault(rate, []).append(mean)
    means = {arm: {rate: round(float(np.mean(us)), 4) for rate, us in rates.items()} for arm, rates in found.items()}
    return {arm: ChosenRate(float(max(rates, key=lambda rate: rates[rate])), rates) for arm, rates in means.items()}
