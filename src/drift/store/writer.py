"""Write conversations into a store: sorted runs on disk, merged with the stored files, in flat memory."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from drift.records import Conversation, stable_hash
from drift.store.folder import Folder
from drift.store.forgotten import copy_without
from drift.store.merging import AddSummary, Merge, MergedRange
from drift.store.rows import Quarantined, file_batches, file_bytes, write_conversations
from drift.store.runs import Runs


class StoreWriter:
    """One transaction (`Store.writer`). Nothing counts before `commit`."""

    def __init__(self, folder: Folder, staging: Path, quarantine: BinaryIO, runs: BinaryIO) -> None:
        self._folder = folder
        self._staging = staging
        self._quarantine = quarantine
        self._manifest = folder.manifest()
        self._runs = Runs(runs)
        self._merge = Merge(self._manifest.generation + 1)

    @property
    def stored(self) -> list[Path]:
        """The files of stored conversations, ordered by id."""
        return [self._folder.path / name for name in self._manifest.conversations]

    @property
    def this_write(self) -> int:
        """The number that this write gets if it adds or changes something."""
        return self._manifest.generation + 1

    @property
    def salt(self) -> str:
        return self._manifest.salt

    @property
    def spill(self) -> Path:
        """A folder for what does not fit into memory; it is deleted with the transaction."""
        return self._staging

    def user_key(self, user: str) -> str:
        """A user's name in this store: a hash with the store's own salt."""
        return _user_key(self._manifest.salt, user)

    def pieces(self, name: str, plan: str) -> Path:
        """A folder for the pieces of this work, as `Store.pieces` for a store that nobody else writes."""
        return self._folder.pieces_of(name, plan)

    def add(self, conversation: Conversation) -> None:
        """Add a conversation, or another version of a stored one."""
        self._runs.add(conversation)

    def quarantine(self, entry: Quarantined) -> None:
        """Note a row that cannot be used. `commit` drops what the store has noted before."""
        self._quarantine.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def commit(self) -> AddSummary:
        """Merge what was added with what is stored. From here on it counts."""
        new = self._staging / "merged.parquet"
        write_conversations(new, self._winners())
        return self._commit([new])

    def commit_ranges(self, files: Sequence[Path], ranges: Sequence[MergedRange]) -> AddSummary:
        """As `commit`, of conversations that other processes merged range by range (`merge_range`) into `files`."""
        for merged in ranges:
            self._merge.tally.update({one.name: getattr(merged, one.name) for one in fields(AddSummary)})
            self._merge.rewritten.update(merged.rewritten)
        return self._commit(files)

    def _commit(self, files: Sequence[Path]) -> AddSummary:
        manifest = self._manifest
        if self._merge.tally["accepted"] or self._merge.tally["updated"]:
            generation = manifest.generation + 1
            parts = [""] if len(files) == 1 else [f"-{number:04d}" for number in range(len(files))]
            names = tuple(f"conversations/{generation:06d}{part}.parquet" for part in parts)
            for file, name in zip(files, names, strict=True):
                self._folder.move_in(file, name)
            labels = tuple(self._still_valid(file, generation) for file in manifest.labels)
            changes = {"generation": generation, "conversations": names, "labels": labels}
            manifest = manifest.model_copy(update=changes)
        self._commit_quarantine()
        self._folder.save(manifest)
        return AddSummary(**self._merge.tally)

    def _still_valid(self, labels: str, generation: int) -> str:
        """The file of labels, without those of conversations whose stored messages changed: they judged other words."""
        kept = self._staging / "labels-kept.parquet"
        if not self._merge.rewritten or not copy_without(self._folder.path / labels, kept, self._merge.rewritten):
            return labels
        name = f"labels/{generation:06d}-{Path(labels).stem}.parquet"
        self._folder.move_in(kept, name)
        return name

    def outlook(self) -> AddSummary:
        """What `commit` would return; nothing is stored."""
        deque(self._winners(), maxlen=0)
        return AddSummary(**self._merge.tally)

    def _winners(self) -> Iterator[pa.Table]:
        """Yield one row per conversation, ordered by id, merged from all its versions."""
        new = self._runs.finish()
        files = [self._folder.path / name for name in self._manifest.conversations] if new else []
        stored = itertools.chain.from_iterable(map(file_batches, files))  # the files are ordered by id
        return self._merge.tables(stored, new, self._runs.bytes + sum(map(file_bytes, files)))

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


class PieceWriter:
    """What a `StoreWriter` gets, in a process that reads a piece of the logs: it writes runs for `merge_range`.

    `ids`: of the conversations that were added, if `noting` them.
    """

    def __init__(self, salt: str, runs: BinaryIO, notes: BinaryIO, ranges: int, spill: Path, noting: bool) -> None:
        self.spill = spill
        self.ids: set[str] = set()
        self._salt = salt
        self._notes = notes
        self._noting = noting
        self._runs = Runs(runs, ranges)

    def user_key(self, user: str) -> str:
        return _user_key(self._salt, user)

    def add(self, conversation: Conversation) -> None:
        self._runs.add(conversation)
        if self._noting:
            self.ids.add(conversation.conversation_id)

    def quarantine(self, entry: Quarantined) -> None:
        self._notes.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Complete the files."""
        self._runs.close()
        self._notes.flush()


@lru_cache(100_000)  # most users have several conversations
def _user_key(salt: str, user: str) -> str:
    return stable_hash(salt, user)


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        if file.exists():
            with file.open("rb") as lines:
                yield from lines
