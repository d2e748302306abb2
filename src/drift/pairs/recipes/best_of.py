"""DRIFT with several samples: chosen = the fresh reply that the scorer likes best, rejected = the fixed, real one.

On a weak policy most fresh replies are no better than the disliked one; the best of several more often is.
"""

from itertools import groupby
from operator import itemgetter

from drift.pairs.recipes.drift import against_the_logs
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs, scored_samples, why_unscored
from drift.records import Drop

NAME = "best_of"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One pair or one named drop for each prompt that has completions."""
    for prompt_id, group in groupby(inputs.completions, key=lambda completion: completion.prompt_id):
        completions = list(group)
        if scored := scored_samples(inputs, completions):
            _, _, best = max(scored, key=itemgetter(0))
            yield from against_the_logs(inputs, NAME, (best,))
        else:
            yield Drop(prompt_id, why_unscored(inputs, completions))
