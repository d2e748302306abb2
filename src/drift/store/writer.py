"""Write conversations into a store: sorted runs on disk, merged with the stored files, in flat memory."""

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from drift.records import Conversation, Message, Rating, RatingKind, stable_hash
from drift.store.folder import Folder
from drift.store.forgotten import copy_without
from drift.store.rows import (
    NUMBERS,
    Quarantined,
    content_hash,
    conversation_batch,
    conversation_of,
    file_batches,
    file_bytes,
    joined,
    with_numbers,
    write_conversations,
)
from drift.store.runs import Runs, merged

_COMPARED = ("content_hash", "user_key", "family")
"""Versions are equal if these columns are: content_hash leaves out the columns that depend on the store's salt."""
_FILLED_IN = ("user_key", "model", "language", "started_at", "family", "tools")
"""Where the longer version has none of these, the shorter version's is taken."""


@dataclass(frozen=True, slots=True)
class AddSummary:
    """What became of the added conversations. `updated`: it changed a stored one; `duplicate`: it changed nothing."""

    accepted: int = 0
    updated: int = 0
    duplicate: int = 0


class StoreWriter:
    """One transaction (`Store.writer`). Nothing counts before `commit`."""

    def __init__(self, folder: Folder, staging: Path, quarantine: BinaryIO, runs: BinaryIO) -> None:
        self._folder = folder
        self._staging = staging
        self._quarantine = quarantine
        self._manifest = folder.manifest()
        self._runs = Runs(runs)
        self._tally: Counter[str] = Counter()
        self._rewritten: set[str] = set()

    @property
    def spill(self) -> Path:
        """A folder for what does not fit into memory; it is deleted with the transaction."""
        return self._staging

    def user_key(self, user: str) -> str:
        """A user's name in this store: a hash with the store's own salt."""
        return _user_key(self._manifest.salt, user)

    def add(self, conversation: Conversation) -> None:
        """Add a conversation, or another version of a stored one."""
        self._runs.add(conversation)

    def quarantine(self, entry: Quarantined) -> None:
        """Note a row that cannot be used. `commit` drops what the store has noted before."""
        self._quarantine.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def commit(self) -> AddSummary:
        """Merge what was added with what is stored. From here on it counts."""
        manifest, new = self._manifest, self._staging / "merged.parquet"
        write_conversations(new, self._winners())
        if self._tally["accepted"] or self._tally["updated"]:
            generation = manifest.generation + 1
            name = f"conversations/{generation:06d}.parquet"
            self._folder.move_in(new, name)
            labels = tuple(self._still_valid(file, generation) for file in manifest.labels)
            changes = {"generation": generation, "conversations": (name,), "labels": labels}
            manifest = manifest.model_copy(update=changes)
        self._commit_quarantine()
        self._folder.save(manifest)
        return AddSummary(**self._tally)

    def _still_valid(self, labels: str, generation: int) -> str:
        """The file of labels, without those of conversations whose stored messages changed: they judged other words."""
        kept = self._staging / "labels-kept.parquet"
        if not self._rewritten or not copy_without(self._folder.path / labels, kept, self._rewritten):
            return labels
        name = f"labels/{generation:06d}-{Path(labels).stem}.parquet"
        self._folder.move_in(kept, name)
        return name

    def outlook(self) -> AddSummary:
        """What `commit` would return; nothing is stored."""
        deque(self._winners(), maxlen=0)
        return AddSummary(**self._tally)

    def _winners(self) -> Iterator[pa.Table]:
        """Yield one row per conversation, ordered by id, merged from all its versions."""
        new = self._runs.finish()
        stored = [self._folder.path / name for name in self._manifest.conversations] if new else []
        runs = [*map(file_batches, stored), *new]
        for window in merged(runs, self._runs.bytes + sum(map(file_bytes, stored))):
            # Of each conversation: first the stored version, then the added ones in the order in which they came.
            batches = [batch for run in window for batch in run]
            stored_rows = sum(len(batch) for run in window[: len(stored)] for batch in run)
            if batches:
                yield self._one_of_each(joined(batches), stored_rows)

    def _one_of_each(self, rows: pa.Table, stored_rows: int) -> pa.Table:
        """One row per conversation, ordered by id. The first `stored_rows` of `rows` are stored already.

        What is new or updated gets the number of this write: a run that has read up to it knows what came since.
        """
        columns = [rows[name].to_pylist() for name in _COMPARED]
        numbers = [rows[name].to_pylist() for name in NUMBERS]
        this_write = self._manifest.generation + 1
        first: dict[str, int] = {}
        several: dict[str, _Versions] = {}
        for place, name in enumerate(rows["conversation_id"].to_pylist()):
            if first.setdefault(name, place) == place:
                continue
            if name not in several:
                several[name] = _Versions(first[name], [column[first[name]] for column in columns])
            several[name].add(place, [column[place] for column in columns], rows)
        merges: list[Conversation] = []  # conversations merged from several versions: appended behind the rows
        places: list[int] = []
        ingested: list[tuple[int | None, int | None]] = []
        for name in sorted(first):
            is_new = first[name] >= stored_rows
            self._tally["accepted"] += is_new
            winner, updates = self._settled(name, several[name], is_new) if name in several else (first[name], 0)
            began, changed = (this_write, this_write) if is_new else (column[first[name]] for column in numbers)
            ingested.append((began, this_write if updates else changed))
            if isinstance(winner, Conversation):
                merges.append(winner)
                winner = len(rows) + len(merges) - 1
            places.append(winner)
        if merges:
            rows = joined([*rows.to_batches(), conversation_batch(merges)])
        return with_numbers(rows.take(places), *map(list, zip(*ingested, strict=True)))

    def _settled(self, name: str, versions: "_Versions", is_new: bool) -> "tuple[int | Conversation, int]":
        """Count what became of each version; returns the place of the row to store, or the merged conversation, and
        how many versions changed what is stored."""
        # Versions that contradict each other change nothing when all of them are added once more.
        updates = 0 if not is_new and versions.compared == versions.initial else versions.updates
        self._tally["updated"] += updates
        self._tally["duplicate"] += versions.added - updates
        if versions.rewritten and updates and not is_new:
            self._rewritten.add(name)
        return versions.winner, updates

    def _commit_quarantine(self) -> None:
        """Write each note once, in the order in which they came. Memory: about 30 bytes per note."""
        self._quarantine.flush()
        files = (self._folder.quarantine, self._staging / "quarantine.jsonl")
        keys = np.fromiter(map(hash, _lines(files)), np.int64)
        if len(keys):
            first = np.zeros(len(keys), bool)
            first[np.unique(keys, return_index=True)[1]] = True
            all_notes = self._staging / "quarantine-all.jsonl"
            with all_notes.open("wb") as out:
                out.writelines(itertools.compress(_lines(files), first))
            self._folder.move_in(all_notes, self._folder.quarantine.name)


@lru_cache(100_000)  # most users have several conversations
def _user_key(salt: str, user: str) -> str:
    return stable_hash(salt, user)


class _Versions:
    """Versions of one conversation. `winner`: a row's place, or the merge of several; `compared`: its _COMPARED."""

    def __init__(self, place: int, compared: list[str | None]) -> None:
        self.winner: int | Conversation = place
        self.compared = self.initial = compared
        self.added = self.updates = 0
        self.rewritten = False

    def add(self, place: int, compared: list[str | None], rows: pa.Table) -> None:
        """Merge the version in row `place` into the winner."""
        self.added += 1
        if compared == self.compared:
            return
        old, new = _conversation(rows, self.winner), _conversation(rows, place)
        both = merge_versions(old, new)
        self.rewritten |= any(_text(now) != _text(then) for now, then in zip(both.messages, old.messages, strict=False))
        of_both = [content_hash(both), both.user_key, both.family]
        if of_both != self.compared:
            self.updates += 1
            self.compared, self.winner = of_both, place if of_both == compared else both


def merge_versions(old: Conversation, new: Conversation) -> Conversation:
    """The longer version's messages (at equal length the older's) with the ratings and tags of both.

    Where both rate the same reply or set the same tag (consent, for example), the longer version wins, at equal length
    the newer. What a version leaves out is not deleted: exports are often incomplete.
    """
    grown = len(new.messages) - len(old.messages)
    longer, weaker, stronger = (new, old, new) if grown > 0 else (old, new, old) if grown < 0 else (old, old, new)
    by_reply: dict[tuple[int, RatingKind], list[Rating]] = {}
    for version in (weaker, stronger):
        of_version: dict[tuple[int, RatingKind], list[Rating]] = {}
        for rating in version.ratings:
            if (place := _place_of(version.messages, rating.reply_index, longer.messages)) is not None:
                of_version.setdefault((place, rating.kind), []).append(replace(rating, reply_index=place))
        by_reply |= of_version
    ratings = sorted(itertools.chain.from_iterable(by_reply.values()), key=attrgetter("rank"))
    shorter = old if longer is new else new
    rest = {name: getattr(shorter, name) for name in _FILLED_IN if getattr(longer, name) is None}
    return replace(longer, ratings=tuple(ratings), tags={**weaker.tags, **stronger.tags}, **rest)


def _place_of(messages: Sequence[Message], place: int, others: Sequence[Message]) -> int | None:
    """The place of a message among others: the same place, or the first with the same text; None if none has."""
    candidates = (place, *range(len(others)))
    return next((p for p in candidates if p < len(others) and _text(others[p]) == _text(messages[place])), None)


def _text(message: Message) -> tuple[object, ...]:
    """The part of a message that labels judge. Its time and source_index may differ from export to export."""
    return message.role, message.content, message.tool_calls


def _conversation(rows: pa.Table, place: int | Conversation) -> Conversation:
    if isinstance(place, Conversation):
        return place
    (row,) = rows.slice(place, 1).to_pylist()
    return conversation_of(row)


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        if file.exists():
            with file.open("rb") as lines:
                yield from lines
