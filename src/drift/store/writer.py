"""Conversations on their way into a store: sorted runs on disk, merged with what is stored, in flat memory."""

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    Quarantined,
    content_hash,
    conversation_batch,
    conversation_of,
    file_batches,
    file_bytes,
    joined,
    write_conversations,
)
from drift.store.runs import Runs, merged

_TOLD = ("content_hash", "user_key", "family")
"""All that a version tells: a hash of content leaves out what holds the store's salt."""
_FILLED = ("user_key", "model", "language", "started_at", "family")


@dataclass(frozen=True, slots=True)
class AddSummary:
    """What became of the conversations that were added: new, a version that tells more than what is stored, or not."""

    accepted: int = 0
    updated: int = 0
    duplicate: int = 0


class StoreWriter:
    """Conversations on their way into a store (`Store.writer`). Nothing counts before `commit`."""

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
        """A folder for what does not fit into memory; it goes with the transaction."""
        return self._staging

    def user_key(self, user: str) -> str:
        """The name under which this store knows a user: a hash with the store's own salt."""
        return stable_hash(self._manifest.salt, user)

    def add(self, conversation: Conversation) -> None:
        self._runs.add(conversation)

    def quarantine(self, entry: Quarantined) -> None:
        """Note a row that cannot be used. One that the store has noted before is not noted again."""
        self._quarantine.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def commit(self) -> AddSummary:
        """Merge what was added with what is stored; from here on it counts."""
        manifest, new = self._manifest, self._staging / "merged.parquet"
        write_conversations(new, self._winners())
        if self._tally["accepted"] or self._tally["updated"]:
            generation = manifest.generation + 1
            name = f"conversations/{generation:06d}.parquet"
            self._folder.move_in(new, name)
            labels = tuple(self._still_true(label, generation) for label in manifest.labels)
            found = {"generation": generation, "conversations": (name,), "labels": labels}
            manifest = manifest.model_copy(update=found)
        self._commit_quarantine()
        self._folder.save(manifest)
        return AddSummary(**self._tally)

    def _still_true(self, labels: str, generation: int) -> str:
        """The file of labels without those of conversations whose stored messages changed: they judged other words."""
        kept = self._staging / "labels-kept.parquet"
        if not self._rewritten or not copy_without(self._folder.path / labels, kept, self._rewritten):
            return labels
        name = f"labels/{generation:06d}-{Path(labels).stem}.parquet"
        self._folder.move_in(kept, name)
        return name

    def outlook(self) -> AddSummary:
        """What `commit` would make of what was added; nothing is kept."""
        deque(self._winners(), maxlen=0)
        return AddSummary(**self._tally)

    def _winners(self) -> Iterator[pa.Table]:
        """One row per conversation, ordered by id, with all that its versions tell."""
        new = self._runs.finish()
        stored = [self._folder.path / name for name in self._manifest.conversations] if new else []
        runs = [*map(file_batches, stored), *new]
        for window in merged(runs, self._runs.bytes + sum(map(file_bytes, stored))):
            # Versions of one conversation come stored first, then in the order in which they came.
            batches = [batch for run in window for batch in run]
            known = sum(len(batch) for run in window[: len(stored)] for batch in run)
            if batches:
                yield self._one_of_each(joined(batches), known)

    def _one_of_each(self, rows: pa.Table, known: int) -> pa.Table:
        """Rows ordered by id; the first `known` of `rows` are stored already."""
        columns = [rows[name].to_pylist() for name in _TOLD]
        first: dict[str, int] = {}
        several: dict[str, _Versions] = {}
        for place, name in enumerate(rows["conversation_id"].to_pylist()):
            if first.setdefault(name, place) == place:
                continue
            if name not in several:
                several[name] = _Versions(first[name], [column[first[name]] for column in columns])
            told = [column[place] for column in columns]
            several[name].add(place, told, rows)
        mended: list[Conversation] = []  # what versions make together: it stands behind the rows for a moment
        places: list[int] = []
        for name in sorted(first):
            is_new = first[name] >= known
            self._tally["accepted"] += is_new
            kept = self._settled(name, several[name], is_new) if name in several else first[name]
            if isinstance(kept, Conversation):
                mended.append(kept)
                kept = len(rows) + len(mended) - 1
            places.append(kept)
        if mended:
            rows = joined([*rows.to_batches(), conversation_batch(mended)])
        return rows.take(places)

    def _settled(self, name: str, versions: "_Versions", is_new: bool) -> "int | Conversation":
        """What is kept of several versions; counts what became of each."""
        # Versions that contradict each other change nothing when all of them come once more.
        updates = 0 if not is_new and versions.told == versions.began else versions.updates
        self._tally["updated"] += updates
        self._tally["duplicate"] += versions.added - updates
        if versions.rewritten and updates and not is_new:
            self._rewritten.add(name)
        return versions.kept

    def _commit_quarantine(self) -> None:
        """Each note once, in the order in which they came; of each, some 30 bytes are held in memory."""
        self._quarantine.flush()
        files = (self._folder.quarantine, self._staging / "quarantine.jsonl")
        keys = np.fromiter(map(hash, _lines(files)), np.int64)
        if len(keys):
            first = np.zeros(len(keys), bool)
            first[np.unique(keys, return_index=True)[1]] = True
            both = self._staging / "quarantine-all.jsonl"
            with both.open("wb") as out:
                out.writelines(itertools.compress(_lines(files), first))
            self._folder.move_in(both, self._folder.quarantine.name)


class _Versions:
    """Versions of one conversation: `kept`, a row's place or what rows make together, `told`, what it tells (_TOLD)."""

    def __init__(self, place: int, told: list[str | None]) -> None:
        self.kept: int | Conversation = place
        self.told = self.began = told
        self.added = self.updates = 0
        self.rewritten = False

    def add(self, place: int, told: list[str | None], rows: pa.Table) -> None:
        self.added += 1
        if told == self.told:
            return
        old, new = _conversation(rows, self.kept), _conversation(rows, place)
        both = together(old, new)
        self.rewritten |= any(_said(now) != _said(then) for now, then in zip(both.messages, old.messages, strict=False))
        found = [content_hash(both), both.user_key, both.family]
        if found != self.told:
            self.updates += 1
            self.told, self.kept = found, place if found == told else both


def together(old: Conversation, new: Conversation) -> Conversation:
    """What two versions of one conversation tell: the longer one's messages (of equals the older's) and all judgements.

    Of one reply the longer version's judgements count, of equals the newer's; so do consent and the other tags. A
    version that says nothing takes nothing back: exports leave things out.
    """
    grown = len(new.messages) - len(old.messages)
    longer, weaker, stronger = (new, old, new) if grown > 0 else (old, new, old) if grown < 0 else (old, old, new)
    judgements: dict[tuple[int, RatingKind], list[Rating]] = {}
    for version in (weaker, stronger):
        of_version: dict[tuple[int, RatingKind], list[Rating]] = {}
        for rating in version.ratings:
            if (place := _place_of(version.messages, rating.reply_index, longer.messages)) is not None:
                of_version.setdefault((place, rating.kind), []).append(replace(rating, reply_index=place))
        judgements |= of_version
    ratings = sorted(itertools.chain.from_iterable(judgements.values()), key=attrgetter("rank"))
    shorter = old if longer is new else new
    rest = {name: getattr(shorter, name) for name in _FILLED if getattr(longer, name) is None}
    return replace(longer, ratings=tuple(ratings), tags={**weaker.tags, **stronger.tags}, **rest)


def _place_of(messages: Sequence[Message], place: int, others: Sequence[Message]) -> int | None:
    """Where a message stands among others: at its place, or at the first one that says the same; None if nowhere."""
    candidates = (place, *range(len(others)))
    return next((p for p in candidates if p < len(others) and _said(others[p]) == _said(messages[place])), None)


def _said(message: Message) -> tuple[str, str]:
    """What labels judge; its time and its place in the log's list may differ from export to export."""
    return message.role, message.content


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
