"""The types of redaction: a detector of personal data, and what it finds."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from drift.records import PersonalData


class PersonalSpan(NamedTuple):
    """`text[start:end]` is personal data. Equal values of a kind have equal `key`s, however they are written."""

    start: int
    end: int
    kind: PersonalData
    key: str


class Detector(NamedTuple):
    """`find` yields personal data in a text. `gate`: an RE2 pattern that every text with a finding matches."""

    gate: str
    find: Callable[[str], Iterator[PersonalSpan]]


def digits_of(text: str) -> str:
    return "".join(filter(str.isdecimal, text))


PersonFinder = Callable[[str], Iterable[PersonalSpan]]
