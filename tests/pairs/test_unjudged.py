"""PromptItems that need no label: replies that any message follows, and turns drawn at random."""

from drift.pairs.unjudged import follow_up_items, random_items
from drift.records import Conversation, Drop, FeedbackLabel, Message, PromptItem, Reason


def talk(name: str, *texts: str, user: str = "u", **more) -> Conversation:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
    return Conversation(name, "test", name, messages, "train", user_key=user, **more)


def test_every_reply_that_a_message_follows_is_an_item_or_a_named_drop():
    chats = [
        talk("a", "2+2?", "5", "no", "4", "thanks", "bye"),  # two followed replies; the last one is not
        talk("b", "2+2?", "5", "no", user="w"),  # said before
        talk("c", "3+3?", "5", "so?", user="w"),  # nearly repeats another
        talk("d", "4+4?", "", "so?", user="w"),
        talk("e", "5+5?", "5", "  "),  # an empty message says nothing
        talk("f", "6+6?", "5", "so?"),  # the third of user u
        talk("g", "7+7?", "5", "so?", user="v", tags={"toxic": "true"}),
    ]
    unlabelled = [(chat, []) for chat in chats]
    rows = list(follow_up_items(unlabelled, frozenset({"c"}), max_per_user=2))
    items = [row for row in rows if isinstance(row, PromptItem)]
    assert [(item.rejected.content, item.complaint.content) for item in items] == [("5", "no"), ("4", "thanks")]
    assert [row.reason for row in rows if isinstance(row, Drop)] == [
        Reason.DUPLICATE_PROMPT,
        Reason.NEAR_DUPLICATE_CONVERSATION,
        Reason.EMPTY_REJECTED,
        Reason.USER_CAP,
        Reason.TOXIC,
    ]
    included = follow_up_items(unlabelled, include=frozenset({"toxic"}))
    assert sum(isinstance(row, PromptItem) for row in included) == 5


def test_what_a_user_who_was_wrong_says_teaches_nothing():
    conversation = talk("a", "2+2?", "4", "no, it is 5", "5", "thanks")
    labels = [FeedbackLabel("a", 1, 2, "DSAT", "judge", "1", subtype="user_mistaken")]
    rows = list(follow_up_items([(conversation, labels)]))
    assert [row.reason if isinstance(row, Drop) else row.reply_index for row in rows] == [Reason.USER_MISTAKEN, 3]
    included = follow_up_items([(conversation, labels)], include=frozenset({"user_mistaken"}))
    assert all(isinstance(row, PromptItem) for row in included)


def test_random_turns_are_as_many_as_asked_and_the_same_each_time():
    chats = [talk(f"c{n}", f"{n}+1?", "3", "thanks", "yes") for n in range(20)]
    drawn = list(random_items(lambda: chats, 7, seed=1))
    assert len(drawn) == 7
    assert drawn == list(random_items(lambda: chats, 7, seed=1)) != list(random_items(lambda: chats, 7, seed=2))
    assert all(isinstance(item, PromptItem) and item.rejected and item.complaint is None for item in drawn)
