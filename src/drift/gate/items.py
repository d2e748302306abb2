"""What a guard asks: items from an endless, seeded stream, without the requests that a model was trained on."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from drift.errors import ConfigError
from drift.evals.replies import EvalRequest
from drift.records import ChatMessage, Completion, stable_hash

Problems = Callable[[Completion], tuple[str, ...]]
"""What is wrong with an answer, by name; empty if it is right. A pure function of the answer."""


@dataclass(frozen=True, slots=True)
class GateItem:
    """A request and what makes an answer to it right. `group`: items with the same one depend on each other."""

    request: EvalRequest
    problems: Problems
    group: str = ""


@dataclass(frozen=True, slots=True)
class DrawnItem:
    """A request of a generator: the messages, the judge of an answer, and the group (empty: a group of its own)."""

    messages: tuple[ChatMessage, ...]
    problems: Problems
    group: str = ""


Draw = Callable[[random.Random, int], DrawnItem]
"""The item number `i` of a stream; the random numbers are its own, so a longer stream begins with a shorter one."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """`seen`: requests that were drawn and left out because a model was trained on them."""

    items: tuple[GateItem, ...]
    seen: int


def asked(text: str, problems: Problems, group: str = "") -> DrawnItem:
    """A request of one message."""
    return DrawnItem((ChatMessage("user", text),), problems, group)


def draw_items(name: str, draw: Draw, count: int, seed: int, trained: Collection[str]) -> Drawn:
    """The first `count` different items of the stream whose requests are not among `trained` (see `plain_request`).

    Raises ConfigError if the generator has not so many.
    """
    items: dict[tuple[ChatMessage, ...], GateItem] = {}
    seen = number = 0
    while len(items) < count:
        if number > 20 * count + 1000:
            raise ConfigError(f"guard {name}: only {len(items)} different items exist, not {count}: lower --items.")
        drawn = draw(random.Random(f"{seed} {name} {number}"), number)
        if drawn.messages not in items:
            if was_trained(drawn.messages, trained):
                seen += 1
            else:
                request = EvalRequest(f"{name}/{seed}/{number}", drawn.messages)
                items[drawn.messages] = GateItem(request, drawn.problems, drawn.group)
        number += 1
    return Drawn(tuple(items.values()), seen)


def was_trained(messages: Sequence[ChatMessage], trained: Collection[str]) -> bool:
    """Whether a user's message of the chat is among the requests that a model was trained on (`plain_request`), or the
    whole chat is (its hash, where the texts are gone)."""
    texts = (plain_request(message.content) for message in messages if message.role == "user")
    return stable_hash(messages) in trained or any(text in trained for text in texts)


def plain_request(text: str) -> str:
    """Requests that differ in case and white space alone are the same."""
    return " ".join(text.lower().split())
