"""PromptItems that need no label: replies that any message of the user follows, and turns drawn at random."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from drift.pairs.candidates import Labelled, PromptCandidate, first_of_each, item_of_turn, prompt_id_of
from drift.records import Conversation, Drop, FeedbackLabel, PromptItem, Reason, stable_hash
from drift.turns import exclusion_reason, judging_turn, request_index


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
        user = conversation.writer
        prompt_id = prompt_id_of(conversation.conversation_id, i)
        if conversation.conversation_id in repeats:
            yield PromptCandidate(prompt_id, user, Reason.NEAR_DUPLICATE_CONVERSATION)
            continue
        item = item_of_turn(conversation, i, liked=False)
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
            item = item_of_turn(conversation, i, liked=False)
            yield Drop(prompt_id_of(conversation.conversation_id, i), item) if isinstance(item, Reason) else item


def _turns(conversations: Iterable[Conversation]) -> Iterator[tuple[Conversation, int]]:
    for conversation in conversations:
        for i, message in enumerate(conversation.messages):
            if message.role == "assistant":
                yield conversation, i
