"""Stores that hold marks of sources in replies, from before these were taken out: what comes is the same reply."""

from dataclasses import replace

import pytest

from drift.records import Conversation, Message, Rating
from drift.store import AddSummary, Store

MARKED = Conversation(
    "id",
    "chatgpt",
    None,
    (Message("user", "Who won?", None, 0), Message("assistant", "Spain 【1†source】.", None, 1)),
    "train",
)
PLAIN = replace(MARKED, messages=(MARKED.messages[0], replace(MARKED.messages[1], content="Spain.")))
DOWN = Rating(1, "thumb", -1.0)


@pytest.mark.parametrize("more", [(), (Message("user", "No, Italy.", None, 2),)])
def test_a_new_thumb_belongs_to_the_reply_whose_marks_are_stored(tmp_path, more):
    store = Store(tmp_path / "store")
    store.add([MARKED])
    assert store.add([replace(PLAIN, messages=(*PLAIN.messages, *more), ratings=(DOWN,))]) == AddSummary(0, 1, 0)
    (stored,) = store.conversations()
    assert (stored.ratings, len(stored.messages)) == ((DOWN,), 2 + len(more))


def test_a_stored_thumb_stays_when_the_chat_goes_on_without_marks(tmp_path):
    store = Store(tmp_path / "store")
    store.add([replace(MARKED, ratings=(DOWN,))])
    store.add([replace(PLAIN, messages=(*PLAIN.messages, Message("user", "No, Italy.", None, 2)))])
    (stored,) = store.conversations()
    assert (stored.ratings, stored.messages[1].content) == ((DOWN,), "Spain.")
