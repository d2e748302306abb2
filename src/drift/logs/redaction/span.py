"""What detectors of personal data are and yield."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from drift.records import PersonalData


class PersonalSpan(NamedTuple):
    """`text[start:end]` is personal data; equal values of a kind (however they are written) have equal `key`s."""

    start: int
    end: int
    kind: PersonalData
    key: str


class Detector(NamedTuple):
    """`gate`: an RE2 pattern that is found in every text in which `find` finds something."""

    gate: str
    find: Callable[[str], Iterator[PersonalSpan]]


def digits_of(text: str) -> str:
    return "".join(filter(str.isdecimal, text))


PersonFinder = Callable[[str], Iterable[PersonalSpan]]
