"""What one call judges: a short conversation in one window, a long one in several, each with some context before."""

from collections.abc import Iterator
from dataclasses import dataclass

from drift.endpoint.fence import LONGEST_MESSAGE, FencedMessage, fenced, shortened
from drift.records import Conversation
from drift.turns import as_text, judged_reply

MOST_TURNS = 12
MOST_CHARACTERS = 24_000
BEFORE = 3
"""Messages that a later window shows before its first judged turn: an earlier reply, the request, the judged reply."""


@dataclass(frozen=True, slots=True)
class Window:
    """Messages `first` to `last` of a conversation, and which of its user turns are to be judged."""

    conversation: Conversation
    first: int
    last: int
    turns: tuple[int, ...]

    def text(self) -> str:
        """The fenced conversation; turns are numbered as in the conversation, from 0."""
        messages = self.conversation.messages
        return fenced(
            FencedMessage(place, messages[place].role, shortened(as_text(messages[place])), place in self.turns)
            for place in range(self.first, self.last + 1)
        )


def judging_turns(conversation: Conversation) -> list[int]:
    """User turns that judge a reply and are not empty: there is nothing to ask a judge about an empty turn."""
    messages = conversation.messages
    return [
        place
        for place, message in enumerate(messages)
        if judged_reply(messages, place) is not None and message.content.strip()
    ]


def windows(conversation: Conversation, only: set[int] | None = None) -> Iterator[Window]:
    """Windows in order; every judged turn (if in `only`, when given) is in exactly one window."""
    turns = [turn for turn in judging_turns(conversation) if only is None or turn in only]
    if not turns:
        return
    sizes = [min(len(as_text(message)), LONGEST_MESSAGE) + 60 for message in conversation.messages]
    first, taken = 0, [turns[0]]
    for turn in turns[1:]:
        if len(taken) < MOST_TURNS and sum(sizes[first : turn + 1]) <= MOST_CHARACTERS:
            taken.append(turn)
            continue
        yield _window(conversation, first, taken, sizes)
        first, taken = max(0, _judged(conversation, turn) - BEFORE + 1), [turn]
    yield _window(conversation, first, taken, sizes)


def _window(conversation: Conversation, first: int, taken: list[int], sizes: list[int]) -> Window:
    """Ends with the last judged turn. If too long, the oldest messages are left out, but never a judged reply."""
    last, reply = taken[-1], _judged(conversation, taken[0])
    while first < reply and sum(sizes[first : last + 1]) > MOST_CHARACTERS:
        first += 1
    return Window(conversation, first, last, tuple(taken))


def _judged(conversation: Conversation, turn: int) -> int:
    """The reply that a judged turn is about."""
    reply = judged_reply(conversation.messages, turn)
    return turn if reply is None else reply
