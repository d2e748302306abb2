"""DRIFT with several samples: chosen = the fresh reply that the scorer likes best, rejected = the fixed, real one.

On a weak policy most fresh replies are no better than the disliked one; the best of several more often is.
"""

from itertools import groupby
from operator import itemgetter

from drift.pairs.form import says_the_same
from drift.pairs.recipes.recipe import (
    PairsOrDrops,
    RecipeInputs,
    fresh_against,
    scored_samples,
    why_unscored,
    with_margin,
)
from drift.records import Completion, Drop, PromptItem, Reason

NAME = "best_of"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One pair or one named drop for each prompt that has completions."""
    for prompt_id, group in groupby(inputs.completions, key=lambda completion: completion.prompt_id):
        yield from _best(inputs, inputs.items[prompt_id], list(group))


def _best(inputs: RecipeInputs, item: PromptItem, completions: list[Completion]) -> PairsOrDrops:
    scored = scored_samples(inputs, completions)
    if item.rejected is None:
        yield Drop(item.prompt_id, "pairs", Reason.EMPTY_REJECTED)
    elif inputs.drop_unfinished and item.rejected_finish == "length":
        yield Drop(item.prompt_id, "pairs", Reason.TRUNCATED)
    elif not scored:
        yield Drop(item.prompt_id, "pairs", why_unscored(inputs, completions))
    elif item.prompt_id in inputs.unlearned:
        yield Drop(item.prompt_id, "pairs", Reason.UNLEARNED)
    else:
        _, score, best = max(scored, key=itemgetter(0))
        fresh = best.message
        if says_the_same(fresh, item.rejected):
            yield Drop(item.prompt_id, "pairs", Reason.CHOSEN_IS_REJECTED)
            return
        pair = fresh_against(NAME, item, best, fresh, item.rejected, item.rejected_finish)
        yield with_margin(pair, score.score, score.rejected_score, score.scorer)
