"""Judgements in a file of their own, about replies of whole chats (ChatGPT's message_feedback.json).

The small files with judgements are read before the chats and kept in memory; each chat then takes those about its
replies. Single calls and their judgements are joined by traces/stitching.py instead.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from drift.errors import DataError
from drift.logs.draft import ConversationDraft, Evidence
from drift.logs.files.rows import LogRow, Place, Reject, short_form
from drift.logs.files.sources import LogFile, Source, ZipMember
from drift.records import Rating, Reason

_FIRST_ROWS = 20  # of which one must be readable


def holds_judgements(source: Source, is_judgement: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Whether the first row of a log is a judgement. False for what can be read only once, and for what is no log."""
    if not isinstance(source, LogFile | ZipMember) or source.name == "-":
        return False
    try:
        rows = islice(source.rows(lambda _: None, Counter()), _FIRST_ROWS)
        first = next((row for row in rows if isinstance(row, LogRow)), None)
    except DataError:  # it is refused when it is read
        return False
    return first is not None and is_judgement(first.value)


def no_reply(at: Place) -> Reject:
    """What becomes of a judgement beside a message that is no reply, or an empty one. The chat's rows count its row."""
    return Reject(at, Reason.ORPHAN_FEEDBACK, "a rating beside a message that holds no reply", rows=0)


class Judgements:
    """The judgements that were read, by the ids of the replies that they are about."""

    def __init__(self) -> None:
        self._about: dict[str, list[Evidence]] = {}
        self._all: list[tuple[Evidence, str]] = []
        self._used: set[int] = set()

    def add(self, evidence: Evidence, file: str) -> None:
        """Keep a judgement of the log `file`."""
        self._all.append((evidence, file))
        for name in evidence.about:
            self._about.setdefault(name, []).append(evidence)

    def rated(self, draft: ConversationDraft) -> ConversationDraft:
        """The draft with the judgements about its replies."""
        judged = (
            (place, evidence)
            for name, place in (draft.reply_ids if self._about else ())
            for evidence in self._used_for(name)
        )
        ratings = [
            Rating(place, evidence.kind, evidence.value, evidence.comment, evidence.preferred)
            for place, evidence in sorted(judged, key=lambda one: one[1].when)
        ]
        ratings = list(reversed(dict.fromkeys(reversed(ratings))))  # one judgement may stand in several files
        return replace(draft, ratings=(*draft.ratings, *ratings)) if ratings else draft

    def _used_for(self, name: str) -> list[Evidence]:
        """The judgements about a reply, marked as used."""
        judgements = self._about.get(name, [])
        self._used.update(map(id, judgements))
        return judgements

    def outcomes(self) -> Iterator[Reject]:
        """Yield what became of each judgement: each is one row."""
        for evidence, file in self._all:
            if id(evidence) in self._used:
                reason, detail = Reason.JOINED_AS_EVIDENCE, ""
            else:
                about = ", ".join(map(short_form, evidence.about[:5])) or "a reply without an id"
                reason = Reason.ORPHAN_FEEDBACK
                detail = f"feedback about {about}: no such reply in these logs; ingest both together"
            yield Reject(evidence.at, reason, detail, rows=evidence.rows, file=file)
