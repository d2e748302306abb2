"""Rules about the turns of a conversation that several packages follow.

Which user message judges which reply, what the prompt of a reply is, which messages a complaint involves, and whether a
reply declines to help.
"""

import re
from collections.abc import Sequence

from drift.records import ChatMessage, Conversation, FeedbackLabel, Message, Reason

REFUSAL_CHARACTERS = 400
"""A reply that declines to help says so within this many characters."""
_UNABLE = r"(?:can(?:not|['\u2019]t)|could not|won['\u2019]t|will not|(?: am|['\u2019]m) (?:not able|unable) to)"
_HELP = r"(?:help|assist|provide|comply|fulfil|engage|create|generate|write|do th(?:at|is)|support|discuss|answer)"
_REFUSAL = re.compile(
    rf"\bI(?: really| also)? ?{_UNABLE}(?: \w+){{0,3}}? ?{_HELP}|\bunable to {_HELP}"
    r"|\bagainst (?:my|our|the) (?:\w+ )?(?:guidelines|policy|policies|programming)"
    r"|\bviolates? (?:\w+ ){0,3}(?:polic|guidelines)"
    r"|\b(?:not|never) (?:appropriate|ethical|legal) (?:for me )?to\b",
    re.IGNORECASE,
)


def judged_reply(messages: Sequence[Message], index: int) -> int | None:
    """Index of the reply that `messages[index]` judges, or None if it judges none.

    A user message judges the assistant message directly before it, and nothing else: the second of two user messages
    adds to the first, and after a tool message the assistant has not answered yet. An empty message judges its reply
    too; it only does not say how.
    """
    judges = index > 0 and messages[index].role == "user" and messages[index - 1].role == "assistant"
    return index - 1 if judges else None


def judging_turn(messages: Sequence[Message], reply_index: int) -> int | None:
    """Index of the user message that judges `messages[reply_index]`: the inverse of `judged_reply`."""
    after = reply_index + 1
    return after if after < len(messages) and judged_reply(messages, after) is not None else None


def prompt_of(
    messages: Sequence[Message], reply_index: int, if_empty: Reason = Reason.EMPTY_REJECTED
) -> tuple[ChatMessage, ...] | Reason:
    """The messages before a reply, as its prompt; or the reason why the two make no training example.

    NO_REQUEST: the message directly before the reply is not a user's, or is empty. `if_empty`: the reply is empty.
    """
    if reply_index == 0 or messages[reply_index - 1].role != "user" or not messages[reply_index - 1].content.strip():
        return Reason.NO_REQUEST
    if not messages[reply_index].content.strip():
        return if_empty
    return tuple(message.chat() for message in messages[:reply_index])


def is_toxic_complaint(conversation: Conversation, label: FeedbackLabel) -> bool:
    """Did the log's own moderation flag the request, the reply, or what the user wrote about the reply?"""
    involved = (label.reply_index - 1, label.reply_index, label.user_index)
    return conversation.is_toxic(*(index for index in involved if index is not None and index >= 0))


def is_refusal(reply: str) -> bool:
    """Does the reply begin by declining to help? An apology for a mistake is not a refusal."""
    return _REFUSAL.search(reply[:REFUSAL_CHARACTERS]) is not None
