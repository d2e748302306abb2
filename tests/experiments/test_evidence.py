"""The committed evidence is that of the worlds and of the configs that are here now."""

import json
from pathlib import Path
from typing import get_args

import pytest

from drift.experiments.compare.settings import arms_of, load_comparison
from drift.experiments.simulation import World, world_hash_of

HERE = Path(__file__).parents[2]
WORLDS = {world_hash_of(world) for world in get_args(World)}
RESULTS = sorted((HERE / "results").glob("**/results.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_every_result_is_from_a_world_that_has_not_changed_since(path):
    """Else the figures of the documents are about another world than the one that the commands make."""
    world = json.loads(path.read_text())["world"]
    assert world
    assert set(world) <= WORLDS


@pytest.mark.parametrize("name", ["compare", "rivals", "real"])
def test_every_arm_has_the_learning_rate_that_was_best_on_validation_requests(name):
    tuned = json.loads((HERE / f"results/{name}/tuning.json").read_text())
    rates = {
        arm.name: arm.cfg.training.learning_rate for arm in arms_of(load_comparison(HERE / f"configs/{name}.yaml"))
    }
    assert tuned.keys() <= rates.keys()
    for arm, utilities in tuned.items():
        chosen = utilities.pop("learning_rate")
        assert float(max(utilities, key=utilities.get)) == chosen == rates[arm], arm
