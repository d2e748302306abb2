"""Write conversations into a store: sorted runs on disk, merged with the stored files, in flat memory."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from drift.records import Conversation, stable_hash
from drift.store.folder import Folder
from drift.store.forgotten import copy_without
from drift.store.merging import AddSummary, Merge
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
        if self._merge.tally["accepted"] or self._merge.tally["updated"]:
            generation = manifest.generation + 1
            name = f"conversations/{generation:06d}.parquet"
            self._folder.move_in(new, name)
            labels = tuple(self._still_valid(file, generation) for file in manifest.labels)
            changes = {"generation": generation, "conversations": (name,), "labels": labels}
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


@lru_cache(100_000)  # most users have several conversations
def _user_key(salt: str, user: str) -> str:
    return stable_hash(salt, user)


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        if file.exists():
            with file.open("rb") as lines:
                yield from lines
