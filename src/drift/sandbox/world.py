"""The world: tasks, their true utility, which of them are held out, and one hash that names all of it.

Only the simulator and the evaluator look in here; ingestion, labelling, pairing, sampling and training never do.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from drift.records import ChatMessage, stable_hash
from drift.sandbox.skills import SKILLS, Args

Part = Literal["deployment", "validation", "test"]

CHATTER = (
    "Sure! I would be happy to help you with that today.",
    "Great question! Let me think about it for a moment.",
    "As a helpful assistant I can do many things for you.",
    "Thanks for asking! There are many ways to look at this.",
)
REFUSALS = ("I cannot help with that.", "Sorry, I am not able to do this.")
_CHATTER = re.compile(
    r"\b(sure|great question|happy to|helpful assistant|thanks for asking|of course|certainly)\b", re.I
)
_REFUSAL = re.compile(r"\b(cannot|can't|not able|unable|sorry)\b", re.I)


@dataclass(frozen=True, slots=True)
class Task:
    """One request of a simulated user. `phrasing` is its place in the skill's phrasings."""

    skill: str
    phrasing: int
    args: Args

    @property
    def request(self) -> str:
        skill = SKILLS[self.skill]
        return skill.phrasings[self.phrasing].format(**skill.show(self.args))

    @property
    def answer(self) -> str:
        return SKILLS[self.skill].answer(self.args)

    @property
    def slip_is_dominant(self) -> bool:
        """One third of the phrasings go with one and the same mistake (else greedy decoding could not improve)."""
        return self.phrasing >= len(SKILLS[self.skill].phrasings) * 2 // 3


def part_of(task: Task) -> Part:
    """A tenth of all requests is kept for validation and a tenth for the test, by hash of their text."""
    bucket = int(stable_hash("part", task.request), 16) % 10
    return "validation" if bucket == 0 else "test" if bucket == 1 else "deployment"


def tasks(rng: random.Random, part: Part) -> Iterator[Task]:
    """Endless tasks of one part, the skills and phrasings evenly."""
    names = list(SKILLS)
    while True:
        skill = SKILLS[rng.choice(names)]
        task = Task(skill.name, rng.randrange(len(skill.phrasings)), skill.draw(rng))
        if part_of(task) == part:
            yield task


def heldout_tasks(part: Literal["validation", "test"], count: int) -> list[Task]:
    """Distinct tasks with requests that no log and no pretraining text contains."""
    chosen: dict[str, Task] = {}
    for task in tasks(random.Random(f"held out {part}"), part):
        chosen.setdefault(task.request, task)
        if len(chosen) == count:
            return list(chosen.values())
    raise AssertionError("unreachable: tasks() never ends")


def utility(task: Task, reply: str) -> float:
    """True utility: 1 correct, -0.35 chatter, 0 refusal or nothing, up to 0.35 for an answer that is partly right."""
    skill, reply = SKILLS[task.skill], reply.strip()
    if skill.is_right(task.args, reply):
        return 1.0
    rambles = len(reply.split()) > 3 * len(task.answer.split()) + 8
    if _CHATTER.search(reply) or rambles:
        return -0.35
    if not reply or _REFUSAL.search(reply):
        return 0.0
    return 0.35 * min(1.0, skill.partial(task.args, reply))


class TrueUtility:
    """The world's verdict as a Scorer (prompt, completion -> utility) over a fixed set of tasks."""

    def __init__(self, known: Sequence[Task]) -> None:
        self._tasks = {task.request: task for task in known}

    def score(self, prompt: Sequence[ChatMessage], completion: str) -> float:
        """Raises KeyError for a request that is not one of the known tasks."""
        return utility(self._tasks[prompt[-1].content], completion)


def world_hash() -> str:
    """Names the world in every result: its code, its phrase book and what it was pretrained on."""
    folder = resources.files("drift.sandbox")
    sources = ("skills.py", "world.py", "users.py", "deployment.py", "corpus.py", "phrases.yaml", "tasks.yaml")
    return stable_hash(*(folder.joinpath(name).read_text(encoding="utf-8") for name in sources))
