"""The true utility of any reply in the sandbox's logs, for scorers and to measure if the chosen reply is better.

A request is recognised from its text: simulated users write other things before it, never after it.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

from drift.records import ChatMessage, Finish
from drift.sandbox.long.world import PHRASINGS, ListTask, list_utility
from drift.sandbox.skills import SKILLS, Args
from drift.sandbox.world import Task, utility

_NUMBERS = {"a", "b", "n", "age"}
_FIELDS = {  # the arguments of a skill, in the order in which its tasks hold them
    "add": ("a", "b"),
    "fact": ("country", "attribute"),
    "json": ("name", "age", "city"),
    "exact_words": ("n", "topic"),
    "bullets": ("n", "category"),
}


class Oracle:
    """A Scorer (prompt, completion -> true utility) for every request of either world."""

    def score(self, prompt: Sequence[ChatMessage], completion: str, finish: Finish = "stop") -> float:
        """`finish` makes no difference: in these worlds, what is cut off is wrong by its text.

        Raises ValueError if no user message of the prompt ends in a request of the sandbox.
        """
        task = task_of(tuple(message.content for message in prompt if message.role == "user"))
        if task is None:
            raise ValueError(f"not a request of the sandbox: {prompt[-1].content!r}")
        return list_utility(task, completion) if isinstance(task, ListTask) else utility(task, completion)


@lru_cache(maxsize=100_000)
def task_of(messages: tuple[str, ...]) -> Task | None:
    """The latest request among a user's messages: after a complaint, the one that was complained about."""
    return next((task for text in reversed(messages) if (task := _request_in(text))), None)


def _request_in(text: str) -> Task | None:
    """The task that `text` ends in; the longest, since one request can be the end of another."""
    tasks = [task for task in _candidates(text) if text.endswith(task.request)]
    return max(tasks, key=lambda task: len(task.request), default=None)


def _candidates(text: str) -> Iterator[Task]:
    for kind, skill, phrasing, pattern in _patterns():
        match = pattern.search(text)
        if match:
            args = _args(skill if kind is Task else "list", match.groupdict())
            yield kind(skill, phrasing, args)


def _args(skill: str, fields: dict[str, str]) -> Args:
    if skill in _FIELDS:
        return tuple(int(fields[name]) if name in _NUMBERS else fields[name] for name in _FIELDS[skill])
    return tuple(next(iter(fields.values())).replace(",", "").split())


@cache
def _patterns() -> list[tuple[type[Task], str, int, re.Pattern[str]]]:
    first = [(Task, name, skill.phrasings) for name, skill in SKILLS.items()]
    second = [(ListTask, name, list(phrasings)) for name, phrasings in PHRASINGS.items()]
    return [
        (kind, name, number, re.compile(_pattern(phrasing) + "$"))
        for kind, name, phrasings in (*first, *second)
        for number, phrasing in enumerate(phrasings)
    ]


def _pattern(phrasing: str) -> str:
    """A phrasing's fields as groups: digits for numbers, words with or without commas for lists."""
    return re.sub(r"\\\{(\w+)\\\}", _group, re.escape(phrasing))


def _group(match: re.Match[str]) -> str:
    name = match[1]
    inside = r"\d+" if name in _NUMBERS else r"\w+(?:,? \w+)*" if name in ("list", "commas") else r"\w+(?: \w+)?"
    return f"(?P<{name}>{inside})"
