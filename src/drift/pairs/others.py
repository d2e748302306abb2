"""PromptItems that need no complaint: replies that users liked, and turns drawn at random."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from drift.records import Conversation, Drop, FeedbackLabel, PromptItem, Reason, stable_hash
from drift.turns import prompt_of

Labelled = Iterable[tuple[Conversation, Sequence[FeedbackLabel]]]


def liked_items(labelled: Labelled) -> Iterator[PromptItem | Drop]:
    """One item, with the liked reply as `preferred`, or one named drop for each SAT label."""
    seen: set[int] = set()
    for conversation, labels in labelled:
        for label in labels:
            if label.label == "SAT":
                row = _item(conversation, label.reply_index, liked=True)
                content = int(stable_hash(row.prompt, row.preferred), 16) if isinstance(row, PromptItem) else 0
                if content and content in seen:
                    row = Drop(stable_hash(content), "prompts", Reason.DUPLICATE_PROMPT)
                seen.add(content)
                yield row


def random_items(
    conversations: Callable[[], Iterable[Conversation]], count: int, seed: int
) -> Iterator[PromptItem | Drop]:
    """`count` turns of the logs in log order, each with its reply as `rejected`, regardless of the user's reaction.

    `conversations` is called twice, because the conversations may not fit into memory.
    """
    turns = sum(1 for _ in _turns(conversations()))
    drawn = set(random.Random(f"random turns {seed}").sample(range(turns), min(count, turns)))
    for position, turn in enumerate(_turns(conversations())):
        if position in drawn:
            yield _item(*turn, liked=False)


def _turns(conversations: Iterable[Conversation]) -> Iterator[tuple[Conversation, int]]:
    for conversation in conversations:
        for i, message in enumerate(conversation.messages):
            if message.role == "assistant":
                yield conversation, i


def _item(conversation: Conversation, i: int, liked: bool) -> PromptItem | Drop:
    """The turn whose reply is `messages[i]`."""
    messages = conversation.messages
    prompt_id = stable_hash(conversation.conversation_id, i)
    prompt = prompt_of(messages, i, if_empty=Reason.EMPTY_CHOSEN if liked else Reason.EMPTY_REJECTED)
    if isinstance(prompt, Reason):
        return Drop(prompt_id, "prompts", prompt)
    finish = conversation.finish_of(i)
    if liked and finish == "length":
        return Drop(prompt_id, "prompts", Reason.TRUNCATED)
    reply = messages[i].chat()
    return PromptItem(
        prompt_id=prompt_id,
        conversation_id=conversation.conversation_id,
        reply_index=i,
        prompt=prompt,
        split=conversation.split,
        rejected=None if liked else reply,
        preferred=reply if liked else None,
        user_key=conversation.user_key,
        rejected_finish="stop" if liked else finish,
    )
