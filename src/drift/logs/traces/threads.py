"""Join rows that hold parts of conversations: one message each, or a request and, in another file, its reply.

The parts of one conversation have one `Call.session`; a kind of part that `Call.trace` names occurs once in it. They
are in the order of `Call.started` if all of them have one, else in that of the rows. The texts wait on disk; 44 bytes
for each row are kept in memory.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drift.logs.draft import ConversationDraft, numbered, tags_of_all
from drift.logs.files.rows import MAX_ROW_BYTES, Reject, Unusable
from drift.logs.traces.gathering import RowKey, first_of_each, repeated
from drift.logs.traces.spool import Spool
from drift.logs.traces.stitching import Stitched
from drift.records import Message, Rating, Reason, stable_hash

_MAX_MESSAGES = 100_000  # of one conversation

Complete = Callable[[ConversationDraft], ConversationDraft]
"""Completes a joined conversation. Raises Unusable if a part is missing."""


class Threads:
    """Takes the rows of one format, in any order and from any number of files, and joins them."""

    def __init__(self, complete: Complete, folder: Path | None = None) -> None:
        self._complete = complete
        self._texts = Spool(folder)
        self._threads, self._started, self._places = array("Q"), array("d"), array("q")
        # What tells whether two rows are the same: hashes (0: no id), and the number of the file.
        self._names, self._contents, self._file_of = array("Q"), array("Q"), array("I")
        self._files: dict[str, int] = {}

    def close(self) -> None:
        """Delete the temporary file."""
        self._texts.close()

    def add(self, item: ConversationDraft, file: str) -> None:
        """Add a part of a conversation."""
        if item.call is None or item.call.session is None:
            raise AssertionError("a part of a conversation needs the conversation's name: this is a bug in a reader")
        self._threads.append(int(stable_hash(item.call.session), 16))
        self._started.append(item.call.started)
        self._places.append(self._texts.write(item, file))
        name = next(iter(item.call.ids), None)
        self._names.append(0 if name is None else int(stable_hash(name), 16))
        # Parts of a batch have no id; their kind stands for their time.
        self._contents.append(int(stable_hash(item.messages, item.call.started, item.call.trace), 16))
        self._file_of.append(self._files.setdefault(file, len(self._files)))

    def finish(self) -> Stitched:
        """Join everything that was added; conversations are in the order of their first rows."""
        return Stitched(self._conversations(), 0, 0)

    def _conversations(self) -> Iterator[ConversationDraft | Reject]:
        names = np.frombuffer(self._threads, dtype=np.uint64)
        order = np.argsort(names, kind="stable")
        starts = np.flatnonzero(np.diff(names[order], prepend=names[order][:1] + np.uint64(1)))
        groups = np.split(order, starts[1:]) if len(order) else []
        for rows in sorted(groups, key=lambda rows: rows[0]):
            yield from self._joined(self._in_order(rows))

    def _in_order(self, rows: np.ndarray) -> list[int]:
        started = np.frombuffer(self._started, dtype=np.float64)[rows]
        has_times = bool((started > 0).all())
        return [int(row) for row in (rows[np.argsort(started, kind="stable")] if has_times else rows)]

    def _joined(self, rows: Sequence[int]) -> Iterator[ConversationDraft | Reject]:
        """One conversation, and the rows that repeat others of it."""
        if len(rows) == 1:
            yield self._of_parts(rows)
            return
        keys = [self._key(row) for row in rows]
        kept: dict[int, int] = {}  # by the first of the rows that are the same: the latest of them
        for row, first in zip(rows, first_of_each(keys), strict=True):
            if first in kept:
                draft, file = self._texts.draft(self._places[min(row, kept[first])])
                yield repeated(draft.at, file)
            kept[first] = max(row, kept.get(first, row))
        yield self._of_parts(list(kept.values()))

    def _key(self, row: int) -> RowKey:
        name = self._names[row]
        content = str(self._contents[row])
        return RowKey(str(self._file_of[row]), str(name) if name else None, content, self._started[row] > 0)

    def _of_parts(self, rows: Sequence[int]) -> ConversationDraft | Reject:
        """One conversation. It keeps the fields of its first part, and takes from later ones what that has not."""
        first, file = self._texts.draft(self._places[rows[0]])
        parts, messages, characters, count = [first], 0, 0, 0
        for row in rows:
            part = first if row == rows[0] else self._texts.draft(self._places[row])[0]
            count += part.rows
            messages += len(part.messages)
            characters += sum(message.size for message in part.messages)
            if messages <= _MAX_MESSAGES and characters <= MAX_ROW_BYTES and row != rows[0]:
                parts.append(part)
        at = first.at
        kinds = Counter(part.call.trace for part in parts if part.call and part.call.trace)
        if twice := next((kind for kind, times in kinds.items() if times > 1), None):
            detail = f"two rows of one name are each a {twice}: ingest each batch by itself"
            return Reject(at, Reason.DUPLICATE_KEYS, detail, rows=count, file=file)
        if messages > _MAX_MESSAGES or characters > MAX_ROW_BYTES:
            return Reject(at, Reason.TOO_LARGE, f"{messages} messages in one conversation", rows=count, file=file)
        # The request of a batch holds a whole chat.
        draft = replace(join_parts(parts), rows=count, file=file, call=None, of_rows=not kinds)
        try:
            return self._complete(draft)
        except Unusable as error:
            return Reject(at, error.reason, error.detail, rows=count, file=file)


def join_parts(parts: Sequence[ConversationDraft]) -> ConversationDraft:
    """One draft from the parts of a conversation, in their order."""
    messages: list[Message] = []
    ratings: list[Rating] = []
    ids: list[tuple[str, int]] = []
    for part in parts:
        ids += [(name, place + len(messages)) for name, place in part.reply_ids]
        ratings += [replace(rating, reply_index=rating.reply_index + len(messages)) for rating in part.ratings]
        messages += part.messages
    known: dict[str, Any] = {
        name: next((value for part in parts if (value := getattr(part, name)) is not None), None)
        for name in ("source_id", "user", "model", "language", "started_at", "family", "tools")
    }
    known |= {
        "messages": numbered(messages),
        "ratings": tuple(ratings),
        "reply_ids": tuple(ids),
        "tags": tags_of_all(part.tags for part in parts),
    }
    return replace(parts[0], **known)
