"""What detectors of personal data are and yield."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from drift.records import PersonalData


class Span(NamedTuple):
    """`text[start:end]` is personal data; equal values of a kind (however they are written) have equal `key`s."""

    start: int
    end: int
    kind: PersonalData
    key: str


class Detector(NamedTuple):
    """`gate`: an RE2 pattern that is found in every text in which `find` finds something."""

    gate: str
    find: Callable[[str], Iterator[Span]]


def digits_of(text: str) -> str:
    return "".join(filter(str.isdecimal, text))
