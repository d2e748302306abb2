"""Replies alone, for KTO (Ethayarajh et al. 2024, arXiv 2402.01306): each judged reply of the logs by itself, no pairs.

A liked reply is a desirable example and stands as chosen, a disliked one is undesirable and stands as rejected. Nothing
is sampled, so all iterations learn from the same rows.
"""

from dataclasses import replace

from drift.pairs.disliked import logged_pair, why_no_repair
from drift.pairs.recipes.recipe import PairsOrDrops, RecipeInputs
from drift.records import ChatMessage, Drop, PreferencePair, PromptItem, Reason, stable_hash

NAME = "unpaired"


def pairs(inputs: RecipeInputs) -> PairsOrDrops:
    """One reply or one named drop for each item, in the order of a hash, so that every batch has both kinds."""
    for item in sorted(inputs.items.values(), key=lambda item: stable_hash("order", item.prompt_id)):
        yield from _reply(item, inputs.drop_unfinished)


def _reply(item: PromptItem, drop_unfinished: bool) -> PairsOrDrops:
    if item.rejected is not None:  # a reply that the user liked instead is an item of its own, a correction is not
        if item.corrected and item.preferred is not None:
            yield _correction(item, item.preferred, item.rejected)
        if drop_unfinished and item.rejected_finish == "length":
            yield Drop(item.prompt_id, Reason.TRUNCATED)
        else:
            yield logged_pair(NAME, item, None, item.rejected)
    elif item.preferred is not None:
        yield logged_pair(NAME, item, item.preferred, None)
    else:
        yield Drop(item.prompt_id, Reason.EMPTY_CHOSEN)


def _correction(item: PromptItem, preferred: ChatMessage, rejected: ChatMessage) -> PreferencePair | Drop:
    if reason := why_no_repair(preferred, rejected):
        return Drop(f"{item.prompt_id}/correction", reason)
    return replace(logged_pair(NAME, item, preferred, None), pair_id=stable_hash(NAME, "correction", item.prompt_id))
