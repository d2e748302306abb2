"""Replies with what the user wrote next, for self-distillation (arXiv 2603.12273): no labels, no pairs, no sampling.

The reply stands as chosen, whatever its user thought of it: what the follow-up makes likelier in it is learnt, and what
it makes less likely is unlearnt (training/loss.py, `self_distillation`).
"""

from dataclasses import replace

from drift.pairs.disliked import logged_pair
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs
from drift.records import Drop, Reason

NAME = "follow_up"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One reply or one named drop for each item."""
    for item in inputs.items.values():
        if item.rejected is None or item.complaint is None:
            yield Drop(item.prompt_id, Reason.NO_FOLLOW_UP)
        elif inputs.drop_unfinished and item.rejected_finish == "length":
            yield Drop(item.prompt_id, Reason.TRUNCATED)
        else:
            row = logged_pair(NAME, item, item.rejected, None)
            yield replace(row, finish=item.rejected_finish, rejected_finish="stop", follow_up=item.complaint)
