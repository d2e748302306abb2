"""Formats in which one row is one conversation."""

from collections.abc import Callable, Iterable, Iterator

from drift.logs.draft import Draft
from drift.logs.rows import Reject, Row, Unusable


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
