"""PromptItems that need no complaint: replies that users liked, and turns drawn at random."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from drift.pairs.disliked import PromptCandidate, first_of_each, logged_pair
from drift.records import Conversation, Drop, FeedbackLabel, PreferencePair, PromptItem, Reason, stable_hash
from drift.turns import (
    exclusion_reason,
    is_liked,
    judging_turn,
    liked_exclusion_reason,
    needs_media,
    prompt_of,
    request_index,
)

Labelled = Iterable[tuple[Conversation, Sequence[FeedbackLabel]]]


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
        user = conversation.user_key or conversation.conversation_id
        for label in labels:
            if not is_liked(label, min_p_sat):
                continue
            prompt_id = _prompt_id(conversation, label.reply_index)
            if conversation.conversation_id in repeats:
                yield PromptCandidate(prompt_id, user, Reason.NEAR_DUPLICATE_CONVERSATION)
                continue
            item = _item(conversation, label.reply_index, liked=True)
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


def follow_up_items(
    labelled: Labelled,
    repeats: frozenset[str] = frozenset(),
    max_per_user: int | None = None,
    include: frozenset[str] = frozenset(),
) -> Iterator[PromptItem | Drop]:
    """One item or one named drop for each reply that a message of the user follows: the reply as `rejected`, the
    message as `complaint`, whatever it says. `repeats`, `max_per_user`, `include`: as in `liked_items`. No label is
    needed; where one names a complaint that must not teach, there is a drop."""
    return first_of_each(follow_up_candidates(labelled, repeats, include), max_per_user)


def follow_up_candidates(
    labelled: Labelled, repeats: frozenset[str], include: frozenset[str]
) -> Iterator[PromptCandidate[PromptItem]]:
    """Map: what depends on one conversation alone."""
    turns = ((place, labels) for conversation, labels in labelled for place in _turns([conversation]))
    for (conversation, i), labels in turns:
        turn = judging_turn(conversation.messages, i)
        if turn is None or not conversation.messages[turn].content.strip():
            continue
        user = conversation.user_key or conversation.conversation_id
        prompt_id = _prompt_id(conversation, i)
        if conversation.conversation_id in repeats:
            yield PromptCandidate(prompt_id, user, Reason.NEAR_DUPLICATE_CONVERSATION)
            continue
        item = _item(conversation, i, liked=False)
        if isinstance(item, Reason):
            yield PromptCandidate(prompt_id, user, item)
        elif reason := _teaches_nothing(conversation, i, turn, labels, include):
            yield PromptCandidate(prompt_id, user, reason)
        else:
            item = replace(item, complaint=conversation.messages[turn].chat())
            content = int(stable_hash(item.prompt, item.rejected, item.complaint), 16)
            yield PromptCandidate(prompt_id, user, None, content, item)


def _teaches_nothing(
    conversation: Conversation, i: int, turn: int, labels: Sequence[FeedbackLabel], include: frozenset[str]
) -> Reason | None:
    """Why the message `turn` after reply `i` must not teach; None if nothing speaks against it."""
    request = request_index(conversation.messages, i) or 0
    if "toxic" not in include and conversation.is_toxic(*range(request, turn + 1)):
        return Reason.TOXIC
    named = next((label for label in labels if label.reply_index == i and label.label == "DSAT"), None)
    if named is not None and (reason := exclusion_reason(conversation, named, include)):
        return reason
    return Reason.NEEDS_IMAGE if conversation.has_media(turn) else None


def random_items(
    conversations: Callable[[], Iterable[Conversation]], count: int, seed: int
) -> Iterator[PromptItem | Drop]:
    """`count` turns of the logs in log order, each with its reply as `rejected`, regardless of the user's reaction.

    `conversations` is called twice, because the conversations may not fit into memory.
    """
    turns = sum(1 for _ in _turns(conversations()))
    drawn = set(random.Random(f"random turns {seed}").sample(range(turns), min(count, turns)))
    for position, (conversation, i) in enumerate(_turns(conversations())):
        if position in drawn:
            item = _item(conversation, i, liked=False)
            yield Drop(_prompt_id(conversation, i), item) if isinstance(item, Reason) else item


def _turns(conversations: Iterable[Conversation]) -> Iterator[tuple[Conversation, int]]:
    for conversation in conversations:
        for i, message in enumerate(conversation.messages):
            if message.role == "assistant":
                yield conversation, i


def _prompt_id(conversation: Conversation, i: int) -> str:
    return stable_hash(conversation.conversation_id, i)


def _item(conversation: Conversation, i: int, liked: bool) -> PromptItem | Reason:
    """The turn whose reply is `messages[i]`, or why there is no item."""
    messages = conversation.messages
    empty = Reason.EMPTY_CHOSEN if liked else Reason.EMPTY_REJECTED
    prompt = Reason.NEEDS_IMAGE if needs_media(conversation, i) else prompt_of(messages, i, if_empty=empty)
    if isinstance(prompt, Reason):
        return prompt
    finish = conversation.finish_of(i)
    if liked and finish == "length":
        return Reason.TRUNCATED
    reply = messages[i].chat()
    return PromptItem(
        prompt_id=_prompt_id(conversation, i),
        conversation_id=conversation.conversation_id,
        reply_index=i,
        prompt=prompt,
        split=conversation.split,
        rejected=None if liked else reply,
        preferred=reply if liked else None,
        user_key=conversation.user_key,
        rejected_finish="stop" if liked else finish,
        tools=conversation.tools,
    )
