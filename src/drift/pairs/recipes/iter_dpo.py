"""IterDPO: several fresh replies per disliked prompt, ranked by a scorer; the best is chosen, the worst rejected.

(Xiong et al. 2024, arXiv 2312.11456; as DRIFT's baseline, one half of the samples guided.) The logs' reply is not used.
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

NAME = "iter_dpo"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One pair or one named drop for each prompt that has completions."""
    for prompt_id, group in groupby(inputs.completions, key=lambda completion: completion.prompt_id):
        yield from _best_and_worst(inputs, inputs.items[prompt_id], list(group))


def _best_and_worst(inputs: RecipeInputs, item: PromptItem, completions: list[Completion]) -> PairsOrDrops:
    scored = scored_samples(inputs, completions)
    if not scored:
        yield Drop(item.prompt_id, why_unscored(inputs, completions))
        return
    (high, score, best), (low, _, worst) = max(scored, key=itemgetter(0)), min(scored, key=itemgetter(0))
    chosen, rejected = best.message, worst.message
    if says_the_same(chosen, rejected):
        yield Drop(item.prompt_id, Reason.IDENTICAL_REPLIES)
    elif high == low:
        yield Drop(item.prompt_id, Reason.TIED_SCORES)
    else:
        pair = fresh_against(NAME, item, best, chosen, rejected, worst.finish)
        yield with_margin(pair, high, low, score.scorer)
