"""Rows turned into drafts one by one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from drift.logs.draft import Draft, Evidence
from drift.logs.rows import Reject, Row, Unusable
from drift.records import Reason


def each(rows: Iterable[Row | Reject], convert: Callable[[Row], Draft]) -> Iterator[Draft | Reject]:
    """Drafts of the rows that `convert` can use; the others as they were refused."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        try:
            yield convert(row)
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail)


Found = Draft | Evidence | Reject


def spread(rows: Iterable[Row | Reject], convert: Callable[[Row], Iterable[Found]]) -> Iterator[Found]:
    """For formats whose rows hold several conversations, calls or judgements: the first one accounts for the row."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        found = False
        try:
            for outcome in convert(row):
                yield replace(outcome, rows=0) if found else outcome
                found = True
        except Unusable as error:
            yield Reject(row.at, error.reason, error.detail, rows=0 if found else 1)
            continue
        if not found:
            yield Reject(row.at, Reason.NO_MESSAGES, "nothing in this row that is a conversation")
