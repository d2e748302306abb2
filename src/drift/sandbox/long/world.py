"""The second world: lists whose right answer runs to 40-80 tokens, to see what carries over from short replies.

A task asks for ten to sixteen words as numbered lines: as they stand, from last to first, or in capitals. Everything
else (users, rates, splits) is the first world's, whose files stay as they are.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from drift.records import ChatMessage, stable_hash
from drift.sandbox.skills import WORDS
from drift.sandbox.world import Part, Task, part_of

PHRASINGS = {
    "bullets": (
        "Number these words, one per line: {list}",
        "Make a numbered list of {list}",
        "One numbered line for each of: {list}",
        "As a numbered list please: {list}",
        "Put each on a numbered line: {list}",
        "Enumerate {list}",
    ),
    "reverse": (
        "Number these from last to first: {list}",
        "Numbered list in opposite order: {list}",
        "Write backwards, numbered, one per line: {list}",
        "Flip the order and number the lines: {list}",
        "Turn this around as a numbered list: {list}",
        "Last one first, numbered: {list}",
    ),
    "upper": (
        "Number these in capital letters: {list}",
        "Numbered list in upper case: {list}",
        "In capitals, one numbered line each: {list}",
        "Uppercase and number them: {list}",
        "Shout these as a numbered list: {list}",
        "Block capitals, numbered: {list}",
    ),
}
LENGTHS = range(10, 17)

_CHATTER = re.compile(r"\b(sure|great question|happy to|helpful assistant|thanks for asking)\b", re.I)
_REFUSAL = re.compile(r"\b(cannot|can't|not able|unable|sorry)\b", re.I)


@dataclass(frozen=True, slots=True)
class ListTask(Task):
    """`skill` is also the chapter of the phrase book from which users complain; `args` are the words."""

    @property
    def request(self) -> str:
        return PHRASINGS[self.skill][self.phrasing].format(list=" ".join(map(str, self.args)))

    @property
    def answer(self) -> str:
        return numbered(self.items)

    @property
    def items(self) -> list[str]:
        words = [str(word) for word in self.args]
        if self.skill == "upper":
            return [word.upper() for word in words]
        return words[::-1] if self.skill == "reverse" else words

    @property
    def slip_is_dominant(self) -> bool:
        return self.phrasing >= len(PHRASINGS[self.skill]) * 2 // 3


def numbered(items: Sequence[str], first: int = 1) -> str:
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, first))


def list_tasks(rng: random.Random, part: Part, lengths: range = LENGTHS) -> Iterator[ListTask]:
    """Endless tasks of one part, skills, phrasings and lengths evenly."""
    names = list(PHRASINGS)
    while True:
        skill = rng.choice(names)
        words = tuple(rng.sample(WORDS, rng.choice(lengths)))
        task = ListTask(skill, rng.randrange(len(PHRASINGS[skill])), words)
        if part_of(task) == part:
            yield task


def heldout_lists(part: Literal["validation", "test"], count: int) -> list[ListTask]:
    """Tasks with requests that no log and no pretraining text contains."""
    chosen: dict[str, ListTask] = {}
    for task in list_tasks(random.Random(f"held out lists {part}"), part):
        chosen.setdefault(task.request, task)
        if len(chosen) == count:
            return list(chosen.values())
    raise AssertionError("unreachable: list_tasks() never ends")


def list_utility(task: Task, reply: str) -> float:
    """1 correct, -0.35 chatter, 0 refusal or nothing, up to 0.35 by the share of lines that stand where they should."""
    reply = reply.strip()
    if reply == task.answer:
        return 1.0
    if _CHATTER.search(reply):
        return -0.35
    if not reply or _REFUSAL.search(reply):
        return 0.0
    got, wanted = reply.split("\n"), task.answer.split("\n")
    return 0.35 * sum(g == w for g, w in zip(got, wanted, strict=False)) / max(len(got), len(wanted))


class ListUtility:
    """The world's verdict as a Scorer over a fixed set of tasks."""

    def __init__(self, known: Sequence[ListTask]) -> None:
        self._tasks = {task.request: task for task in known}

    def score(self, prompt: Sequence[ChatMessage], completion: str) -> float:
        """Raises KeyError for a request that is not one of the known tasks."""
        return list_utility(self._tasks[prompt[-1].content], completion)


def list_world_hash() -> str:
    """Names this world: its own files, and those of the first world's users and rates."""
    own, first = resources.files("drift.sandbox.long"), resources.files("drift.sandbox")
    places = (own / "world.py", own / "corpus.py", own / "deployment.py", first / "users.py", first / "phrases.yaml")
    return stable_hash(*(place.read_text(encoding="utf-8") for place in places))
