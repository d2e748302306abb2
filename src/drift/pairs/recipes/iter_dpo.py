"""IterDPO: several fresh replies per disliked prompt, ranked by a scorer; the best is chosen, the worst rejected.

(Xiong et al. 2024, arXiv 2312.11456; as DRIFT's baseline, one half of the samples guided.) The logs' reply is not used.
"""

from itertools import groupby

from drift.pairs.form import says_the_same
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs, fresh_against, fresh_reply, unusable, with_margin
from drift.records import Completion, Drop, PromptItem, Reason, Score

NAME = "iter_dpo"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One pair or one named drop for each prompt that has completions."""
    for prompt_id, group in groupby(inputs.completions, key=lambda completion: completion.prompt_id):
        yield from _best_and_worst(inputs, inputs.items[prompt_id], list(group))


def _best_and_worst(inputs: RecipeInputs, item: PromptItem, completions: list[Completion]) -> PairsOrDrops:
    usable = [c for c in completions if unusable(c, inputs.drop_unfinished) is None]
    scored = [(score, c) for c in usable if (score := inputs.score(c)) is not None and score.score is not None]
    if not usable:
        yield Drop(item.prompt_id, "pairs", unusable(completions[0], inputs.drop_unfinished) or Reason.EMPTY_CHOSEN)
        return
    if not scored:
        yield Drop(item.prompt_id, "pairs", Reason.UNSCORED)
        return
    best, worst = max(scored, key=_points), min(scored, key=_points)
    if says_the_same(fresh_reply(best[1]), fresh_reply(worst[1])):
        yield Drop(item.prompt_id, "pairs", Reason.IDENTICAL_REPLIES)
    elif _points(best) == _points(worst):
        yield Drop(item.prompt_id, "pairs", Reason.TIED_SCORES)
    else:
        chosen, rejected = (fresh_reply(completion) for _, completion in (best, worst))
        pair = fresh_against(NAME, item, best[1], chosen, rejected, worst[1].finish)
        yield with_margin(pair, best[0].score, worst[0].score, best[0].scorer)


def _points(scored: tuple[Score, Completion]) -> float:
    """Only called on scores that are there."""
    return scored[0].score or 0.0
