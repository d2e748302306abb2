"""The dialogues that the embedded policies are pretrained on, made on the fly, never from held-out requests.

Half of them are corrections (reply, complaint, better reply), half of those in the guided format that the sampler uses:
a policy that cannot take criticism gains nothing from being shown it. The first reply of a correction is context, not
a target, so that how often the base is right is set by `reply` alone.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from drift.policy.guided import guided_turn
from drift.sandbox import users
from drift.sandbox.skills import SKILLS
from drift.sandbox.world import CHATTER, REFUSALS, Task, tasks, utility


@dataclass(frozen=True, slots=True)
class Line:
    role: str
    text: str
    is_target: bool = False


RIGHT, RIGHT_WHERE_SLIPPING, SLIP_WHERE_SLIPPING, RIGHT_WHEN_CORRECTED = 0.74, 0.36, 0.56, 0.93


def mistake(task: Task, rng: random.Random) -> str:
    """A wrong reply: mostly a slip of the skill, sometimes chatter or a refusal."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(CHATTER)
    if kind < 0.3:
        return rng.choice(REFUSALS)
    for _ in range(10):
        slip = SKILLS[task.skill].slips(task.args, rng)
        if utility(task, slip) < 1:
            return slip
    return rng.choice(CHATTER)


def reply(task: Task, rng: random.Random) -> str:
    """What the corpus answers: right mostly, and in one third of the phrasings mostly the skill's dominant slip."""
    draw = rng.random()
    if not task.slip_is_dominant:
        return task.answer if draw < RIGHT else mistake(task, rng)
    if draw < RIGHT_WHERE_SLIPPING:
        return task.answer
    if draw < RIGHT_WHERE_SLIPPING + SLIP_WHERE_SLIPPING:
        return SKILLS[task.skill].dominant(task.args, rng)
    return mistake(task, rng)


def wrong_reply(task: Task, rng: random.Random) -> str:
    for _ in range(20):
        text = reply(task, rng)
        if utility(task, text) < 1:
            return text
    return mistake(task, rng)


def correction(task: Task, rng: random.Random) -> list[Line]:
    wrong = wrong_reply(task, rng)
    complaint = users.complain(rng, task.skill, task.request, wrong, task.answer, evasive=utility(task, wrong) <= 0)
    better = task.answer if rng.random() < RIGHT_WHEN_CORRECTED else mistake(task, rng)
    asked = guided_turn(complaint) if rng.random() < 0.5 else complaint
    return [Line("user", task.request), Line("assistant", wrong), Line("user", asked), Line("assistant", better, True)]


def exchange(task: Task, rng: random.Random) -> list[Line]:
    return [Line("user", task.request), Line("assistant", reply(task, rng), True)]


def then(lines: list[Line], rng: random.Random) -> list[Line]:
    """The next exchange of the same chat begins with a word about the last one, or with none."""
    said = users.praise(rng, relieved=False) if rng.random() < 0.15 else users.bridge(rng)
    first = lines[0]
    return [Line(first.role, users.joined(said, first.text)), *lines[1:]]


def dialogues(rng: random.Random) -> Iterator[list[Line]]:
    """Endless: one request or two in a chat, half of the chats with a correction."""
    source = tasks(rng, "deployment")
    while True:
        lines = exchange(next(source), rng) if rng.random() < 0.3 else []
        last = correction(next(source), rng) if rng.random() < 0.5 else exchange(next(source), rng)
        yield [*lines, *(then(last, rng) if lines else last)]
