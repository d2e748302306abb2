"""SPIN (Chen et al. 2024, arXiv 2401.01335) on logs: chosen = the reply that the user liked, rejected = a fresh one.

The opposite of DRIFT: the good side is fixed and scarce, the bad side is the policy's own and moves towards it.
"""

from drift.pairs.form import says_the_same
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs, fresh_against, unusable
from drift.records import Drop, Reason

NAME = "spin"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One pair or one named drop for each completion of an item whose reply was liked."""
    for completion in inputs.completions:
        item = inputs.items[completion.prompt_id]
        row = f"{item.prompt_id}/{completion.sample}"
        reason = unusable(completion, inputs.drop_unfinished)
        if item.preferred is None:
            yield Drop(row, Reason.EMPTY_CHOSEN)
        elif reason is not None:
            yield Drop(row, Reason.EMPTY_REJECTED if reason is Reason.EMPTY_CHOSEN else reason)
        elif says_the_same(completion.message, item.preferred):
            yield Drop(row, Reason.CHOSEN_IS_REJECTED)
        else:
            fresh = completion.message
            yield fresh_against(NAME, item, completion, item.preferred, fresh, completion.finish)
