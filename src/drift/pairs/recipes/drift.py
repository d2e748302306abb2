"""DRIFT: the rejected reply is fixed and real, the chosen one is fresh from the current policy.

(x, y+ ~ pi_k, y-) for every disliked reply y-, with the same y- in every iteration (DRIFT, algorithm 1).
"""

from collections.abc import Iterable, Iterator

from drift.records import ChatMessage, Completion, Drop, PreferencePair, PromptItem, Reason, stable_hash

NAME = "drift"


def pairs(
    items: Iterable[PromptItem], completions: Iterable[Completion], drop_truncated: bool
) -> Iterator[PreferencePair | Drop]:
    """One pair or one named drop for each completion of an item that has a rejected reply."""
    by_id = {item.prompt_id: item for item in items}
    for completion in completions:
        item = by_id[completion.prompt_id]
        reason = _unusable(item, completion, drop_truncated)
        if reason is not None or item.rejected is None:
            yield Drop(f"{item.prompt_id}/{completion.sample}", "pairs", reason or Reason.EMPTY_REJECTED)
            continue
        yield PreferencePair(
            pair_id=stable_hash(NAME, item.prompt_id, completion.iteration, completion.sample),
            prompt_id=item.prompt_id,
            conversation_id=item.conversation_id,
            reply_index=item.reply_index,
            recipe=NAME,
            iteration=completion.iteration,
            policy_id=completion.policy_id,
            prompt=item.prompt,
            chosen=(ChatMessage("assistant", completion.text),),
            rejected=(item.rejected,),
            user_key=item.user_key,
            chosen_token_ids=completion.token_ids,
            finish=completion.finish,
            weight=item.weight,
            noise=item.noise,
            split=item.split,
        )


def _unusable(item: PromptItem, completion: Completion, drop_truncated: bool) -> Reason | None:
    if completion.finish == "error":
        return Reason.SAMPLING_ERROR
    if not completion.text.strip():
        return Reason.EMPTY_CHOSEN
    if item.rejected and completion.text.strip() == item.rejected.content.strip():
        return Reason.CHOSEN_IS_REJECTED
    if completion.finish == "length" and drop_truncated:
        return Reason.TRUNCATED
    return None
