"""Replies that users liked become PromptItems, but for those that are no example."""

from dataclasses import replace

from drift.pairs.liked import liked_items
from drift.records import ChatMessage, Conversation, Drop, FeedbackLabel, Message, PromptItem, Reason


def chat(*texts: str) -> Conversation:
    messages = tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))
    return Conversation("c", "test", None, messages, "train")


CHAT, LIKED = chat("2+1?", "3", "thanks", "yes"), [FeedbackLabel("c", 1, 2, "SAT", "embedded", "1")]


def test_liked_turns_are_prompts_with_what_was_liked():
    (item,) = liked_items([(CHAT, LIKED)])
    assert isinstance(item, PromptItem)
    assert (item.prompt[-1].content, item.preferred, item.rejected) == ("2+1?", ChatMessage("assistant", "3"), None)


def test_a_liked_reply_of_a_flagged_exchange_is_no_example():
    flagged = replace(CHAT, tags={"toxic": "true"})
    (dropped,) = liked_items([(flagged, LIKED)])
    assert isinstance(dropped, Drop)
    assert dropped.reason == Reason.TOXIC
    (kept,) = liked_items([(flagged, LIKED)], include=frozenset({"toxic"}))
    assert isinstance(kept, PromptItem)


def test_a_reply_that_gave_in_to_a_user_who_was_wrong_is_no_example():
    """The user contradicts a right reply, the assistant gives in, and the user likes that."""
    conversation = chat("2+2?", "4", "no, it is 5", "5", "thanks")
    mistaken = FeedbackLabel("c", 1, 2, "DSAT", "judge", "1", subtype="user_mistaken")
    liked = FeedbackLabel("c", 3, 4, "SAT", "judge", "1")
    (dropped,) = liked_items([(conversation, [mistaken, liked])])
    assert isinstance(dropped, Drop)
    assert dropped.reason == Reason.USER_MISTAKEN
    (kept,) = liked_items([(conversation, [mistaken, liked])], include=frozenset({"user_mistaken"}))
    assert isinstance(kept, PromptItem)
    (other,) = liked_items([(conversation, [replace(mistaken, subtype="wrong"), liked])])
    assert isinstance(other, PromptItem)
