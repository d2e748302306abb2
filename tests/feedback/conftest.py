"""Short conversations in the shape that the labellers read."""

from collections.abc import Callable

import pytest

from drift.feedback.embedded.labeller import EmbeddedLabeller
from drift.records import Conversation, Message, Rating


@pytest.fixture(scope="session")
def labeller() -> EmbeddedLabeller:
    return EmbeddedLabeller()


@pytest.fixture(scope="session")
def chat() -> Callable[..., Conversation]:
    """`chat("hi", "hello", "thanks")`: the user and the assistant take turns."""

    def make(*texts: str, name: str = "c", ratings: tuple[Rating, ...] = ()) -> Conversation:
        roles = ("user", "assistant")
        messages = tuple(Message(roles[i % 2], text, source_index=i + 10) for i, text in enumerate(texts))
        return Conversation(name, "test", f"log-{name}", messages, "train", ratings=ratings)

    return make
