"""Self-distillation from the follow-up, on-policy (arXiv 2603.12273): fresh replies of the policy to the request alone.

What the user wrote after the logged reply tells which tokens of the fresh one to make likelier. The nearer the fresh
reply is to the logged one, the better the message fits it.
DEVIATION: the authors let a simulated user answer the fresh reply; here, the message is the logged one.
"""

from dataclasses import replace

from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs, fresh_against, unusable
from drift.records import Drop, Reason

NAME = "fresh_follow_up"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One reply or one named drop for each completion."""
    for completion in inputs.completions:
        item = inputs.items[completion.prompt_id]
        row = f"{item.prompt_id}/{completion.sample}"
        if item.rejected is None or item.complaint is None:
            yield Drop(row, Reason.NO_FOLLOW_UP)
        elif reason := unusable(completion, inputs.drop_unfinished):
            yield Drop(row, reason)
        else:
            pair = fresh_against(NAME, item, completion, completion.message, item.rejected)
            yield replace(pair, rejected=(), follow_up=item.complaint)
