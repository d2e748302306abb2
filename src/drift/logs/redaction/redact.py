"""Placeholders in the place of personal data: `<EMAIL_1>`, the same one for the same value within a conversation."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import get_args

from drift.config import IngestionSettings
from drift.logs.files.rows import Reject
from drift.logs.redaction.finder import DETECTORS, detectors_for, find, without_overlaps
from drift.logs.redaction.span import Detector, PersonalSpan, PersonFinder
from drift.records import Conversation, PersonalData

CHARACTERS_PER_BATCH = 2_000_000  # of conversations that go through the gate at once
_OWN = re.compile(rf"<({'|'.join(kind.upper() for kind in get_args(PersonalData))})_([0-9]{{1,9}})>")
_PASSES = 4  # what is left after a pass is rare: a replaced value can free what stood against it


class Placeholders:
    """Names for the values of one conversation, numbered in the order in which they are met.

    `texts`: all of it; numbers that it holds already (a log that was redacted before) are not given again.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._names: dict[tuple[PersonalData, str], str] = {}
        self._last: Counter[str] = Counter()
        for text in texts:
            for kind, number in _OWN.findall(text) if "<" in text else ():
                self._last[kind] = max(self._last[kind], int(number))

    def of(self, span: PersonalSpan) -> str:
        name = self._names.get((span.kind, span.key))
        if name is None:
            kind = span.kind.upper()
            self._last[kind] += 1
            name = self._names[span.kind, span.key] = f"<{kind}_{self._last[kind]}>"
        return name


class Redactor:
    """`keep`: kinds that stay as they are. `persons`: finds names (a model, so it is slow); by default none does.

    `counts`: replaced values by kind.
    """

    def __init__(self, keep: Iterable[PersonalData] = (), persons: PersonFinder | None = None) -> None:
        self.counts: Counter[PersonalData] = Counter()
        self._keep = frozenset(keep)
        self._persons = persons

    def each(self, rows: Iterable[Conversation | Reject]) -> Iterator[Conversation | Reject]:
        """The rows in their order, their texts redacted."""
        together: list[Conversation | Reject] = []
        characters = 0
        for row in rows:
            together.append(row)
            characters += 500 + (sum(len(m.content) for m in row.messages) if isinstance(row, Conversation) else 0)
            if characters > CHARACTERS_PER_BATCH:
                yield from self._some(together)
                together, characters = [], 0
        yield from self._some(together)

    def _some(self, rows: list[Conversation | Reject]) -> Iterator[Conversation | Reject]:
        texts = [_texts(row) for row in rows]
        chosen = iter(detectors_for([text for some in texts for text in some]))
        for row, some in zip(rows, texts, strict=True):
            detectors = [next(chosen) for _ in some]
            yield self._redacted(row, some, detectors) if self._persons or any(detectors) else row

    def _redacted(
        self, row: Conversation | Reject, texts: list[str], detectors: list[tuple[Detector, ...]]
    ) -> Conversation | Reject:
        names = Placeholders(texts)
        clean = map(self.text, texts, detectors, itertools.repeat(names))
        if isinstance(row, Reject):
            return replace(row, detail=next(clean))
        return replace(
            row,
            messages=tuple(replace(message, content=next(clean)) for message in row.messages),
            ratings=tuple(
                replace(r, comment=r.comment and next(clean), preferred=r.preferred and next(clean))
                for r in row.ratings
            ),
            tags={key: next(clean) for key in row.tags},
            source_id=next(clean) or None,
        )

    def text(self, text: str, detectors: Iterable[Detector], names: Placeholders) -> str:
        for _ in range(_PASSES):
            found = [span for span in find(text, detectors) if span.kind not in self._keep]
            if self._persons is not None and "person" not in self._keep:
                found = without_overlaps((*found, *self._persons(text)))
            if not found:
                break
            self.counts.update(span.kind for span in found)
            text = _replaced(text, found, names)
        return text


def redact_text(text: str) -> str:
    """One text by itself."""
    return Redactor().text(text, DETECTORS, Placeholders([text]))


def _replaced(text: str, found: list[PersonalSpan], names: Placeholders) -> str:
    pieces, at = [], 0
    for span in found:
        pieces += (text[at : span.start], names.of(span))
        at = span.end
    return "".join((*pieces, text[at:]))


def _texts(row: Conversation | Reject) -> list[str]:
    """All that people wrote in it, in the order in which placeholders are numbered."""
    if isinstance(row, Reject):
        return [row.detail]
    said = (text for rating in row.ratings for text in (rating.comment, rating.preferred) if text)
    return [*(message.content for message in row.messages), *said, *row.tags.values(), row.source_id or ""]


def make_redactor(settings: IngestionSettings) -> Redactor | None:
    """None where nothing is to be redacted. Raises PrerequisiteError if the model for names is not there."""
    if not settings.redact:
        return None
    if settings.persons is None:
        return Redactor(settings.keep)
    from drift.logs.redaction.persons import person_finder

    return Redactor(settings.keep, person_finder(settings.persons))
