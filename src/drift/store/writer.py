"""Conversations on their way into a store: sorted runs on disk, merged with what is stored, in flat memory."""

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from drift.records import Conversation, Rating, RatingKind, stable_hash
from drift.store.folder import Folder
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
            manifest = manifest.model_copy(update={"generation": generation, "conversations": (name,)})
        self._commit_quarantine()
        self._folder.save(manifest)
        return AddSummary(**self._tally)

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
        hashes = rows["content_hash"].to_pylist()
        kept: dict[str, int] = {}
        mended: dict[int, Conversation] = {}  # what two versions make together, by places behind the rows
        for place, name in enumerate(rows["conversation_id"].to_pylist()):
            best = kept.setdefault(name, place)
            if best == place:
                self._tally["accepted"] += place >= known
            elif hashes[best] == hashes[place]:
                self._tally["duplicate"] += 1
            else:
                both = together(mended.get(best) or _conversation(rows, best), _conversation(rows, place))
                found = content_hash(both)
                if found == hashes[best]:
                    self._tally["duplicate"] += 1
                    continue
                self._tally["updated"] += 1
                kept[name] = place
                if found != hashes[place]:
                    kept[name] = len(hashes)
                    mended[len(hashes)] = both
                    hashes.append(found)
        if mended:
            rows = joined([*rows.to_batches(), conversation_batch(list(mended.values()))])
        return rows.take([kept[name] for name in sorted(kept)])

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


def together(old: Conversation, new: Conversation) -> Conversation:
    """What two versions of one conversation tell: the longer one's messages (of equals the older's) and all judgements.

    Of one reply the longer version's judgements count, of equals the newer's; so do consent and the other tags.
    """
    grown = len(new.messages) - len(old.messages)
    longer, shorter = (new, old) if grown > 0 else (old, new)
    first, last = (old, new) if grown == 0 else (shorter, longer)
    judgements: dict[tuple[int, RatingKind], list[Rating]] = {}
    for version in (first, last):
        of_version: dict[tuple[int, RatingKind], list[Rating]] = {}
        for rating in version.ratings:
            if version.messages[rating.reply_index].content == longer.messages[rating.reply_index].content:
                of_version.setdefault((rating.reply_index, rating.kind), []).append(rating)
        judgements |= of_version
    ratings = sorted(itertools.chain.from_iterable(judgements.values()), key=attrgetter("rank"))
    return replace(longer, ratings=tuple(ratings), tags={**first.tags, **last.tags})


def _conversation(rows: pa.Table, place: int) -> Conversation:
    (row,) = rows.slice(place, 1).to_pylist()
    return conversation_of(row)


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        if file.exists():
            with file.open("rb") as lines:
                yield from lines
