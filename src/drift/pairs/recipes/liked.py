"""Replies that users liked, alone, for SFT: the cheapest recipe. No labels of dislikes, no pairs, no sampling.

`warm_start.on: liked` learns from the same kind of replies before the first iteration. Here they are what the
iterations learn from, so that a comparison has the same number of rows and updates for them.
"""

from drift.pairs.disliked import logged_pair
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs
from drift.records import Drop, Reason

NAME = "liked"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One reply or one named drop for each item."""
    for item in inputs.items.values():
        if item.preferred is None:
            yield Drop(item.prompt_id, Reason.EMPTY_CHOSEN)
        else:
            yield logged_pair(NAME, item, item.preferred, None)
