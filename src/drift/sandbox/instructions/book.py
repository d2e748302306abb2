"""The phrase books: topics, ways to ask, instructions with their values, and what users say.

Every topic, value and phrasing belongs to the logs or is held out. Validation and test differ in topics and phrasings;
they share the held-out values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

import yaml

from drift.records import stable_hash
from drift.sandbox.instructions.constraints import Constraint

Part = Literal["logs", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
FAMILIES = ("length", "marks", "words", "edges", "layout")
"""The files with the kinds' chapters."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True, slots=True)
class Chapter:
    """How users demand one kind of constraint, and at least twelve ways to complain that it is violated.

    `values`: each fills all `slots`.
    """

    kind: str
    slots: tuple[str, ...]
    values: Mapping[Part, tuple[tuple[str, ...], ...]]
    instructions: Mapping[Part, tuple[str, ...]]
    complaints: tuple[str, ...]

    def fill(self, template: str, values: tuple[str, ...]) -> str:
        """`{n}` becomes the value as it is, `{N}` a number in words (capitalised at the beginning)."""
        filled = dict(zip(self.slots, values, strict=True))
        numbers = {name.upper(): NUMBERS[int(v)] for name, v in filled.items() if v.isdigit() and int(v) <= 10}
        text = template.format(**filled, **numbers)
        return text[:1].upper() + text[1:]


@cache
def read(name: str) -> Any:
    """A file of the folder `phrases`."""
    file = resources.files("drift.sandbox.instructions") / "phrases" / f"{name}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@cache
def chapters() -> dict[str, Chapter]:
    """Every kind's chapter by its name."""
    return {kind: _chapter(kind, rows) for family in FAMILIES for kind, rows in read(family).items()}


def _chapter(kind: str, rows: Mapping[str, Any]) -> Chapter:
    values = {name: tuple(tuple(map(str, value)) for value in found) for name, found in rows["values"].items()}
    return Chapter(
        kind,
        tuple(rows["slots"]),
        {"logs": values["logs"], "validation": values["heldout"], "test": values["heldout"]},
        {part: tuple(rows["instructions"][part]) for part in PARTS},
        tuple(rows["complaints"]),
    )


@cache
def topics() -> dict[str, tuple[str, ...]]:
    """Topic -> the words that show it."""
    return {topic: tuple(words) for topic, words in read("topics").items()}


def part_of_topic(topic: str) -> Part:
    """A tenth of the topics is for validation, a fifth for the test, by hash."""
    bucket = int(stable_hash("topic", topic), 16) % 10
    return "validation" if bucket == 0 else "test" if bucket <= 2 else "logs"


@cache
def topics_of(part: Part) -> tuple[str, ...]:
    return tuple(topic for topic in topics() if part_of_topic(topic) == part)


def asks(part: Part) -> tuple[str, ...]:
    return tuple(read("asks")[part])


def phrases(name: str) -> tuple[str, ...]:
    """What users say that is not particular to a kind: `vague`, `thanks`, ..."""
    return tuple(read("users")[name])


def follow_ups(name: Literal["change", "switch"], part: Part) -> tuple[str, ...]:
    return tuple(read("users")[name][part])


def instruct(constraint: Constraint, template: str) -> str:
    """The constraint as a sentence of the user."""
    return chapters()[constraint.kind].fill(template, constraint.values)


_FORMS = {
    "e": re.compile(r"ing|ings|able|ion|ions|ation|ations|or|ors|ity"),
    "y": re.compile(r"ies|ied|ier|iest|ic|ical|ist|ists|er|ers|ize|ized"),
}
"""What may stand in place of a word's last letter."""


def shows(word: str, sign: str) -> bool:
    """Is `word` (lower case) the sign or one of its forms? "sailed" and "baking" are; "careful" is none of "car"."""
    if len(sign) <= 3:
        return word in (sign, f"{sign}s", f"{sign}es")
    if word.startswith(sign):
        return len(word) - len(sign) <= 4
    forms = _FORMS.get(sign[-1])
    return bool(forms and word.startswith(sign[:-1]) and forms.fullmatch(word[len(sign) - 1 :]))
