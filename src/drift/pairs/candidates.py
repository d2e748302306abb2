"""What may become a PromptItem: each reply gives a candidate (map), and the first of each content stays (reduce).

disliked.py, liked.py and unjudged.py make the candidates, find.py searches a store for them, in_pieces.py does so on
several workers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from drift.records import Conversation, Drop, FeedbackLabel, PromptItem, Reason, Verdict, stable_hash
from drift.turns import needs_media, prompt_of

Item = TypeVar("Item")
Labelled = Iterable[tuple[Conversation, Sequence[FeedbackLabel]]]
"""Conversations with their labels."""


@dataclass(frozen=True, slots=True)
class PromptCandidate(Generic[Item]):
    """An item that counts unless an earlier one has the same `content` (a hash), or its user has too many. `reason`:
    why there is no item."""

    prompt_id: str
    user: str
    reason: Reason | None = None
    content: int = 0
    item: Item | None = None


class Finder(Protocol):
    """`about`: the verdict that gives items. `name`, `plan`: of the work in pieces, and the settings that tell it from
    other work. `max_per_user`: limit of the items of one user. `repeats`: as in `prompt_items`."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> Verdict: ...

    @property
    def plan(self) -> object: ...

    @property
    def max_per_user(self) -> int | None: ...

    def items(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptItem | Drop]:
        """Everything in one process."""
        ...

    def candidates(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptCandidate[PromptItem]]:
        """Map, of a part of the conversations; `first_of_each` reduces."""
        ...

    def row(self, item: PromptItem) -> object:
        """What the stage writes of an item."""
        ...


def first_of_each(
    rows: Iterable[PromptCandidate[Item]], max_per_user: int | None, items_of_user: Counter[str] | None = None
) -> Iterator[Item | Drop]:
    """Reduce: drop what goes beyond a user's limit, and what repeats an earlier item. In the order of conversation ids,
    since what is dropped for the limit does not count as earlier. `items_of_user`: counted here, so that
    `disliked_candidates` knows who is full.
    """
    items_of_user = Counter() if items_of_user is None else items_of_user
    seen: set[int] = set()
    for row in rows:
        if items_of_user[row.user] == max_per_user:
            yield Drop(row.prompt_id, Reason.USER_CAP)
        elif row.item is None:
            assert row.reason is not None, "a candidate has an item or a reason"
            yield Drop(row.prompt_id, row.reason)
        elif row.content in seen:
            yield Drop(row.prompt_id, Reason.DUPLICATE_PROMPT)
        else:
            seen.add(row.content)
            items_of_user[row.user] += 1
            yield row.item


def prompt_id_of(conversation_id: str, reply_index: int) -> str:
    return stable_hash(conversation_id, reply_index)


def lacks_old_turns(item: PromptItem) -> bool:
    """True if the conversation is so long that only its newest turns are in the prompt."""
    return len(item.prompt) < item.reply_index


def item_of_turn(conversation: Conversation, i: int, liked: bool) -> PromptItem | Reason:
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
        prompt_id=prompt_id_of(conversation.conversation_id, i),
        conversation_id=conversation.conversation_id,
        reply_index=i,
        prompt=prompt,
        split=conversation.split,
        rejected=None if liked else reply,
        preferred=reply if liked else None,
        user_key=conversation.user_key,
        rejected_finish="stop" if liked else finish,
        tools=conversation.tools,
        family=conversation.family,
    )
