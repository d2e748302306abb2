"""DSAT -> SAT repairs: a reply that was disliked, then a revised one that was liked, for the same request.

They are the seeds of the warm start (DRIFT, algorithm 1): chosen = the liked reply, rejected = the disliked one,
prompt = the context before the disliked reply.
"""

from collections.abc import Iterable, Iterator

from drift.records import Drop, PreferencePair, PromptItem, Reason, stable_hash


def repair_pairs(items: Iterable[PromptItem]) -> Iterator[PreferencePair | Drop]:
    """One pair or one named drop for each item whose reply was mended to the user's liking."""
    for item in items:
        if item.rejected is None or item.preferred is None:
            continue
        if not item.preferred.content.strip():
            yield Drop(item.prompt_id, "repairs", Reason.EMPTY_CHOSEN)
        elif item.preferred.content.strip() == item.rejected.content.strip():
            yield Drop(item.prompt_id, "repairs", Reason.IDENTICAL_REPLIES)
        else:
            yield PreferencePair(
                pair_id=stable_hash("repair", item.prompt_id),
                prompt_id=item.prompt_id,
                conversation_id=item.conversation_id,
                reply_index=item.reply_index,
                recipe="repair",
                iteration=0,
                policy_id="logs",
                prompt=item.prompt,
                chosen=(item.preferred,),
                rejected=(item.rejected,),
                user_key=item.user_key,
                noise=item.noise,
                split=item.split,
            )
