"""The world's name, and its held-out conversations with the truth about any reply to them."""

import random
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

from drift.records import ChatMessage, Truth, stable_hash
from drift.sandbox.instructions.answers import right_answer
from drift.sandbox.instructions.assignment import EVERYTHING, RequestMix, draw_follow_up, draw_request
from drift.sandbox.instructions.truth import InstructionOracle

FOLLOW_UPS = (0.7, 0.2, 0.1)
"""Shares of held-out conversations with no, one and two follow-ups."""


def heldout_prompts(
    part: Literal["validation", "test"], count: int, mix: RequestMix = EVERYTHING
) -> list[tuple[ChatMessage, ...]]:
    """Different conversations that end with a request or a follow-up, the kinds evenly. No log has their topics, values
    or phrasings; the assistant's earlier replies in them are right ones.

    The first prompts are the same whatever the count.
    """
    rng = random.Random(f"instructions held out {part}")
    absolute = mix.absolute
    chosen: dict[str, tuple[ChatMessage, ...]] = {}
    while len(chosen) < count:
        assignment = draw_request(rng, part, absolute[len(chosen) % len(absolute)], mix)
        messages = [ChatMessage("user", assignment.asked)]
        for _ in range(rng.choices(range(len(FOLLOW_UPS)), FOLLOW_UPS)[0]):
            reply = right_answer(assignment, rng)
            asked, assignment = draw_follow_up(rng, part, assignment, reply, mix)
            messages += [ChatMessage("assistant", reply), ChatMessage("user", asked)]
        chosen.setdefault("\n".join(message.content for message in messages), tuple(messages))
    return list(chosen.values())


def instructions_truth(part: Literal["validation", "test"], count: int, mix: RequestMix = EVERYTHING) -> Truth:
    """The first `count` held-out prompts of a part, and the oracle that scores any reply to them."""
    return Truth(tuple(heldout_prompts(part, count, mix)), InstructionOracle(), instructions_world_hash())


def instructions_world_hash() -> str:
    """Names this world in every result: all of its code and phrases, except for what runs a model in it."""
    folder = resources.files("drift.sandbox.instructions")
    return stable_hash(*(f"{name}\n{text}" for name, text in sorted(_sources(folder, ""))))


def _sources(folder: Traversable, path: str) -> list[tuple[str, str]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _sources(entry, f"{path}{entry.name}/")
        elif entry.name.endswith((".py", ".yaml")) and entry.name != "deployment.py":
            found.append((path + entry.name, entry.read_text(encoding="utf-8")))
    return found
