"""From a conversation back to what the user wants in it, by the words alone, so that no record has to be kept.

A careless user swaps letters inside words and leaves out capitals and marks. So texts are compared "folded": in lower
case, without marks, the letters inside of each word sorted. Users write other things before a request, never after it.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Generic, TypeVar

from drift.records import ChatMessage
from drift.sandbox.instructions.assignment import Assignment, changed, switched
from drift.sandbox.instructions.book import PARTS, asks, chapters, follow_ups, instruct, topics
from drift.sandbox.instructions.constraints import KINDS, Constraint
from drift.sandbox.instructions.constraints.text import plain

Request = tuple[str, tuple[Constraint, ...]]
"""A topic and constraints."""

Meaning = TypeVar("Meaning")


def assignment_of(messages: Sequence[ChatMessage]) -> Assignment | None:
    """What the user wants at the end of these messages; None if they never asked for anything of this world.

    A complaint changes nothing: the user still wants what they wanted before.
    """
    current, reply = None, ""
    for message in messages:
        if message.role == "assistant":
            reply = message.content
        elif message.role == "user":
            current = _after(current, message.content, reply)
    return current


def _after(current: Assignment | None, said: str, reply: str) -> Assignment | None:
    found = recognise(said)
    if isinstance(found, tuple):
        return Assignment(*found, asked=said)
    if current is None or found is None:
        return current
    if isinstance(found, Constraint):
        return changed(current, found, said, reply)
    return switched(current, found, said)


@lru_cache(maxsize=100_000)
def recognise(said: str) -> Request | Constraint | str | None:
    """The request that a message ends in; of a follow-up, the constraint or the topic that it brings; else None."""
    words = fold(said).split()
    for start in range(len(words)):
        for topic, end in _matches(_asks(), words, start):
            constraints = _instructions(words, end)
            if constraints:
                return topic, constraints
        for topic, end in _matches(_switches(), words, start):
            if end == len(words):
                return topic
        for constraint, end in _matches(_follow_ups(), words, start):
            if end == len(words):
                return constraint
    return None


def fold(text: str) -> str:
    text = plain(text).lower().replace("'", "")
    return " ".join(word[:1] + "".join(sorted(word[1:-1])) + word[1:][-1:] for word in re.findall(r"[^\W_]+", text))


def _instructions(words: Sequence[str], start: int) -> tuple[Constraint, ...] | None:
    """The constraints that fill the words from `start` to their end; None if something else is there."""
    if start == len(words):
        return ()
    for constraint, end in _matches(_constraints(), words, start):
        rest = _instructions(words, end)
        if rest is not None:
            return constraint, *rest
    return None


class _Phrases(Generic[Meaning]):
    """Folded phrases with what they mean. `lengths`: by first word, their numbers of words, the most first."""

    def __init__(self, meaning: dict[str, Meaning]) -> None:
        self.meaning = meaning
        lengths: dict[str, set[int]] = {}
        for phrase in meaning:
            words = phrase.split()
            lengths.setdefault(words[0], set()).add(len(words))
        self.lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}


def _matches(phrases: _Phrases[Meaning], words: Sequence[str], start: int) -> Iterator[tuple[Meaning, int]]:
    for length in phrases.lengths.get(words[start], ()):
        end = start + length
        if end <= len(words) and (meaning := phrases.meaning.get(" ".join(words[start:end]))) is not None:
            yield meaning, end


@cache
def _asks() -> _Phrases[str]:
    ways = [ask for part in PARTS for ask in asks(part)]
    return _Phrases({fold(ask.format(topic=topic)): topic for ask in ways for topic in topics()})


@cache
def _switches() -> _Phrases[str]:
    ways = [way for part in PARTS for way in follow_ups("switch", part)]
    return _Phrases({fold(way.format(topic=topic)): topic for way in ways for topic in topics()})


@cache
def _constraints() -> _Phrases[Constraint]:
    return _Phrases(dict(_worded(relative=False)))


@cache
def _follow_ups() -> _Phrases[Constraint]:
    ways = [way.format(instruction="") for part in PARTS for way in follow_ups("change", part)]
    told = {f"{fold(way)} {text}": found for way in ways for text, found in _worded(relative=False)}
    return _Phrases({**told, **dict(_worded(relative=True))})


def _worded(relative: bool) -> Iterator[tuple[str, Constraint]]:
    """Every constraint in every wording."""
    for kind, chapter in chapters().items():
        if KINDS[kind].relative != relative:
            continue
        templates = [template for part in PARTS for template in chapter.instructions[part]]
        every = {value for part in PARTS for value in chapter.values[part]}
        for value in sorted(every):
            for template in templates:
                yield fold(instruct(Constraint(kind, value), template)), Constraint(kind, value)
