"""DPO on the logs' own pairs: chosen = the revised reply that the user liked, rejected = the one before. Nothing fresh.

One DPO run of K epochs: iterate with `training.reference: warm_start`, or K = 1.
"""

from drift.pairs.disliked import repair_pairs
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs

NAME = "logs"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """The repairs among the items, as in the warm start; with `unfinished: drop`, without those of a cut reply."""
    return repair_pairs(inputs.items.values(), inputs.drop_unfinished)
