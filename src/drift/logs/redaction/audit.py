"""Count what still looks like personal data in a store (`drift audit-privacy`)."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from drift.logs.redaction.finder import detectors_for, find
from drift.logs.redaction.redact import message_texts
from drift.progress import report_progress
from drift.records import Conversation, PersonalData
from drift.store import Store

CONVERSATIONS_PER_BATCH = 512

Hint = Literal["own_name", "birth_date", "handle", "long_number", "random_token"]
# Looser than the patterns of redaction: places that a person may want to check. Most are harmless.
_HINTS: dict[Hint, re.Pattern[str]] = {
    "own_name": re.compile(
        r"\b(?:[Mm]y name(?: is|'s)|I am called|[Ii]ch heiße|[Jj]e m'appelle|[Mm]e llamo) [A-Z][a-z]+"
    ),
    "birth_date": re.compile(r"\b(?:born on|date of birth|dob|birthday is|geboren am)\b[^\n]{0,20}[0-9]{2,4}", re.I),
    "handle": re.compile(r"(?<![\w@/])@[A-Za-z][A-Za-z0-9_]{3,30}(?![\w@.])"),
    "long_number": re.compile(r"(?<![\w.,-])[0-9](?:[ -]?[0-9]){8,18}(?![\w,-]|\.[0-9])"),
    "random_token": re.compile(
        r"(?<![\w/+.-])(?=[\w-]{0,40}[0-9][\w-]{0,40}[A-Z])(?=[\w-]{0,40}[a-z])[A-Za-z0-9_-]{32,128}(?![\w/+-])"
    ),
}
_PLACEHOLDER = re.compile(r"<([A-Z_]{2,11})_[0-9]{1,9}>")


@dataclass(frozen=True, slots=True)
class PrivacyAudit:
    """`found`: what redaction would replace, by kind; empty in a redacted store. `hints`: looser signs, by kind.

    `placeholders`: values that redaction has replaced, by kind; `with_findings`: conversations with any of `found`.
    """

    conversations: int
    with_findings: int
    found: dict[PersonalData, int] = field(default_factory=dict)
    hints: dict[str, int] = field(default_factory=dict)
    placeholders: dict[str, int] = field(default_factory=dict)


def audit_store(store: Store) -> PrivacyAudit:
    """Search every message, comment and tag in the store. Raises DataError if it is empty."""
    store.require_conversations()
    total = store.size()
    findings, hints, placeholders = Counter[PersonalData](), Counter[str](), Counter[str]()
    done = affected = 0
    stream = store.conversations()
    while batch := list(islice(stream, CONVERSATIONS_PER_BATCH)):
        texts = [(place, text) for place, conversation in enumerate(batch) for text in _texts(conversation)]
        with_findings: set[int] = set()
        for (place, text), detectors in zip(texts, detectors_for([text for _, text in texts]), strict=True):
            spans = find(text, detectors)
            findings.update(span.kind for span in spans)
            with_findings |= {place} if spans else set()
            hints.update(_hints(text))
            placeholders.update(name.lower() for name in _PLACEHOLDER.findall(text))
        done, affected = done + len(batch), affected + len(with_findings)
        report_progress(done, total)
    return PrivacyAudit(done, affected, dict(findings), dict(hints), dict(placeholders))


def _hints(text: str) -> Iterator[Hint]:
    for hint, pattern in _HINTS.items():
        for _ in pattern.finditer(text):
            yield hint


def _texts(conversation: Conversation) -> Iterable[str]:
    yield from message_texts(conversation)
    if conversation.tools:
        yield conversation.tools
    yield from (text for rating in conversation.ratings for text in (rating.comment, rating.preferred) if text)
    yield from conversation.tags.values()
    if conversation.source_id:
        yield conversation.source_id
