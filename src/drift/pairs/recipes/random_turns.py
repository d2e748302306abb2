"""A control: replies drawn at random from the logs stand in for disliked ones; the users' verdict is not used."""

from drift.pairs.recipes.drift import against_the_logs
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs

NAME = "random_turns"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """As DRIFT, over other prompts; nobody complained about these, so their samples are unguided."""
    yield from against_the_logs(inputs, NAME)
