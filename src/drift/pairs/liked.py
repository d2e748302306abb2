"""Labels into PromptItems: every reply that its user liked, with the request before it."""

from collections.abc import Iterable, Iterator

from drift.pairs.candidates import Labelled, PromptCandidate, first_of_each, item_of_turn, prompt_id_of
from drift.pairs.disliked import logged_pair
from drift.records import Drop, PreferencePair, PromptItem, Reason, stable_hash
from drift.turns import is_liked, liked_exclusion_reason


def liked_items(
    labelled: Labelled,
    min_p_sat: float = 0.0,
    repeats: frozenset[str] = frozenset(),
    max_per_user: int | None = None,
    include: frozenset[str] = frozenset(),
) -> Iterator[PromptItem | Drop]:
    """One item, with the liked reply as `preferred`, or one named drop for each SAT label of at least `min_p_sat`.

    `repeats`, `max_per_user`: as in `prompt_items`. An exchange that the log's moderation flagged gives none, unless
    `include` names `toxic`; nor does a reply that gave in to a user who was wrong, unless it names `user_mistaken`.
    """
    return first_of_each(liked_candidates(labelled, min_p_sat, repeats, include), max_per_user)


def liked_candidates(
    labelled: Labelled, min_p_sat: float, repeats: frozenset[str], include: frozenset[str]
) -> Iterator[PromptCandidate[PromptItem]]:
    """Map: what depends on one conversation alone."""
    for conversation, labels in labelled:
        user = conversation.writer
        for label in labels:
            if not is_liked(label, min_p_sat):
                continue
            prompt_id = prompt_id_of(conversation.conversation_id, label.reply_index)
            if conversation.conversation_id in repeats:
                yield PromptCandidate(prompt_id, user, Reason.NEAR_DUPLICATE_CONVERSATION)
                continue
            item = item_of_turn(conversation, label.reply_index, liked=True)
            if isinstance(item, Reason):
                yield PromptCandidate(prompt_id, user, item)
            elif reason := liked_exclusion_reason(conversation, label, labels, include):
                yield PromptCandidate(prompt_id, user, reason)
            else:
                content = int(stable_hash(item.prompt, item.preferred), 16)
                yield PromptCandidate(prompt_id, user, None, content, item)


def liked_replies(items: Iterable[PromptItem | Drop]) -> Iterator[PreferencePair | Drop]:
    """The items of `liked_items` as pairs without a rejected reply, for SFT."""
    for item in items:
        if isinstance(item, Drop):
            yield item
            continue
        assert item.preferred is not None, "liked_items gives every item its liked reply"
        yield logged_pair("liked", item, item.preferred, None)
