"""DRIFT: the rejected reply is fixed and real, the chosen one is fresh from the current policy.

(x, y+ ~ pi_k, y-) for every disliked reply y-, with the same y- in every iteration (DRIFT, algorithm 1). Guided,
unguided or mixed is the sampler's matter (`recipe.guided_share`).
"""

from collections.abc import Sequence

from drift.pairs.form import says_the_same
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs, fresh_against, unusable, with_margin
from drift.records import Completion, Drop, Reason

NAME = "drift"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One pair or one named drop for each completion of an item that has a rejected reply."""
    yield from against_the_logs(inputs, NAME)


def against_the_logs(inputs: RecipeInputs, name: str, completions: Sequence[Completion] | None = None) -> PairsOrDrops:
    """Chosen = the fresh reply, rejected = the reply that stands in the logs. `completions`: some of the inputs'."""
    for completion in inputs.completions if completions is None else completions:
        item = inputs.items[completion.prompt_id]
        row = f"{item.prompt_id}/{completion.sample}"
        reason = unusable(completion, inputs.drop_unfinished)
        if item.rejected is None:
            yield Drop(row, Reason.EMPTY_REJECTED)
        elif reason is not None:
            yield Drop(row, reason)
        elif inputs.drop_unfinished and item.rejected_finish == "length":
            yield Drop(row, Reason.TRUNCATED)
        elif says_the_same(completion.message, item.rejected):
            yield Drop(row, Reason.CHOSEN_IS_REJECTED)
        elif item.prompt_id in inputs.unlearned:
            yield Drop(row, Reason.UNLEARNED)
        else:
            fresh = completion.message
            pair = fresh_against(name, item, completion, fresh, item.rejected, item.rejected_finish)
            score = inputs.score(completion)
            yield pair if score is None else with_margin(pair, score.score, score.rejected_score, score.scorer)
