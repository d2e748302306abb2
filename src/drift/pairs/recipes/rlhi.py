"""User-guided rewrites of RLHI (arXiv 2509.25137): the policy rewrites each reply that its user disliked, once.

Chosen = the rewrite, rejected = the original.

The rewrites of the first iteration serve every iteration, so K iterations are K epochs on the same pairs.
DEVIATION: RLHI also shows a persona of the user, made of their earlier chats, to the rewriter and in the pair's prompt.
"""

from drift.pairs.recipes.drift import against_the_logs
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs
from drift.records import Drop, Reason

NAME = "rlhi"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """As DRIFT; a fresh reply that no complaint guided, such as after a bare thumb, is no rewrite and is dropped."""
    for completion in inputs.completions:
        if completion.guided or completion.finish == "error":
            yield from against_the_logs(inputs, NAME, (completion,))
        else:
            yield Drop(f"{completion.prompt_id}/{completion.sample}", Reason.NO_FOLLOW_UP)
