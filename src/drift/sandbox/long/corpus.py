"""What the second world's base is pretrained on: the first world's plan with lists in place of its nine skills."""

import random
from collections.abc import Iterator

from drift.policy.guided import guided_turn
from drift.sandbox import users
from drift.sandbox.corpus import RIGHT, RIGHT_WHEN_CORRECTED, RIGHT_WHERE_SLIPPING, SLIP_WHERE_SLIPPING, Line, then
from drift.sandbox.long.world import LENGTHS, ListTask, list_tasks, list_utility, numbered
from drift.sandbox.world import CHATTER, REFUSALS


def mistake(task: ListTask, rng: random.Random) -> str:
    """Chatter or a refusal now and then; mostly one line that is missing, swapped with the next, or doubled."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(CHATTER if kind < 0.2 else REFUSALS)
    items = task.items
    place = rng.randrange(len(items) - 1)
    before, after = items[:place], items[place + 1 :]
    changed = (
        [*before, *after],
        [*before, items[place + 1], items[place], *items[place + 2 :]],
        [*before, items[place], items[place], *after],
    )
    return numbered(rng.choice(changed))


def dominant(task: ListTask) -> str:
    """The mistake that goes with the last third of the phrasings."""
    words = [str(word) for word in task.args]
    if task.skill == "bullets":
        return "\n".join(f"- {word}" for word in words)
    return numbered(words) if task.skill == "reverse" else numbered([word.capitalize() for word in words])


def reply(task: ListTask, rng: random.Random) -> str:
    draw = rng.random()
    if not task.slip_is_dominant:
        return task.answer if draw < RIGHT else mistake(task, rng)
    if draw < RIGHT_WHERE_SLIPPING:
        return task.answer
    return dominant(task) if draw < RIGHT_WHERE_SLIPPING + SLIP_WHERE_SLIPPING else mistake(task, rng)


def wrong_reply(task: ListTask, rng: random.Random) -> str:
    for _ in range(20):
        text = reply(task, rng)
        if list_utility(task, text) < 1:
            return text
    return mistake(task, rng)


def correction(task: ListTask, rng: random.Random) -> list[Line]:
    wrong = wrong_reply(task, rng)
    complaint = users.complain(rng, task.skill, task.request, wrong, task.answer, list_utility(task, wrong) <= 0)
    better = task.answer if rng.random() < RIGHT_WHEN_CORRECTED else mistake(task, rng)
    asked = guided_turn(complaint) if rng.random() < 0.5 else complaint
    return [Line("user", task.request), Line("assistant", wrong), Line("user", asked), Line("assistant", better, True)]


def list_dialogues(rng: random.Random) -> Iterator[list[Line]]:
    """Endless: half of the chats are a correction; a fifth of the others have a second request.

    Lists of two words and more: on long ones alone, copying was not learned within 1,250 steps.
    """
    source = list_tasks(rng, "deployment", range(2, LENGTHS.stop))
    while True:
        task = next(source)
        if rng.random() < 0.5:
            yield correction(task, rng)
            continue
        lines = [Line("user", task.request), Line("assistant", reply(task, rng), True)]
        if rng.random() < 0.2:
            more = next(source)
            following = [Line("user", more.request), Line("assistant", reply(more, rng), True)]
            lines += then(following, rng)
        yield lines
