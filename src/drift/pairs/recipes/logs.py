"""DPO on the logs' own pairs: chosen = the revised reply that the user liked, rejected = the one before. Nothing fresh.

One DPO run of K epochs: iterate with `training.reference: warm_start`, or K = 1.
"""

from drift.pairs.disliked import repair_pairs
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs
from drift.records import Drop, Reason

NAME = "logs"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """The repairs among the items, as in the warm start; with `unfinished: drop`, without those of a cut reply."""
    for row in repair_pairs(inputs.items.values()):
        if inputs.drop_unfinished and not isinstance(row, Drop) and not row.is_finished:
            row = Drop(row.prompt_id, "pairs", Reason.TRUNCATED)
        yield row
