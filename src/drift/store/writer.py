"""Conversations on their way into a store: sorted runs on disk, merged with what is stored, in flat memory."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import orjson
import pyarrow as pa

from drift.records import Conversation, stable_hash
from drift.store.folder import Folder
from drift.store.rows import (
    CONVERSATION,
    Quarantined,
    conversation_batch,
    extents,
    file_batches,
    file_bytes,
    write_conversations,
)
from drift.store.runs import Runs, merged

RUN_CHARACTERS = 32_000_000  # text that is sorted in memory before it goes to a run


@dataclass(frozen=True, slots=True)
class AddSummary:
    """What became of the conversations that were added: new, longer than the stored version, or neither."""

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
        self._pending: list[Conversation] = []
        self._characters = 0
        self._tally: Counter[str] = Counter()

    @property
    def spill(self) -> Path:
        """A folder for what does not fit into memory; it goes with the transaction."""
        return self._staging

    def user_key(self, user: str) -> str:
        """The name under which this store knows a user: a hash with the store's own salt."""
        return stable_hash(self._manifest.salt, user)

    def add(self, conversation: Conversation) -> None:
        self._pending.append(conversation)
        self._characters += 200 + sum(len(message.content) for message in conversation.messages)
        if self._characters >= RUN_CHARACTERS:
            self._finish_run()

    def quarantine(self, entry: Quarantined) -> None:
        """Note a row that cannot be used. One that the store has noted before is not noted again."""
        self._quarantine.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def commit(self) -> AddSummary:
        """Merge what was added with what is stored; from here on it counts."""
        self._finish_run()
        manifest, merged_file = self._manifest, self._staging / "merged.parquet"
        if self._runs.bytes:
            write_conversations(merged_file, self._winners())
        if self._tally["accepted"] or self._tally["updated"]:
            generation = manifest.generation + 1
            name = f"conversations/{generation:06d}.parquet"
            self._folder.move_in(merged_file, name)
            manifest = manifest.model_copy(update={"generation": generation, "conversations": (name,)})
        self._commit_quarantine()
        self._folder.save(manifest)
        return AddSummary(**self._tally)

    def outlook(self) -> AddSummary:
        """What `commit` would make of what was added; nothing is kept."""
        self._finish_run()
        deque(self._winners() if self._runs.bytes else (), maxlen=0)
        return AddSummary(**self._tally)

    def _finish_run(self) -> None:
        if self._pending:
            self._runs.add(conversation_batch(sorted(self._pending, key=attrgetter("conversation_id"))))
            self._pending, self._characters = [], 0

    def _winners(self) -> Iterator[pa.Table]:
        """One row per conversation, ordered by id: the longest version, the stored or else the first of equals."""
        stored = [self._folder.path / name for name in self._manifest.conversations]
        runs = [*map(file_batches, stored), *self._runs.read()]
        for window in merged(runs, self._runs.bytes + sum(map(file_bytes, stored))):
            # Versions of one conversation come stored first, then in the order in which they came.
            batches = [batch for run in window for batch in run]
            known = sum(len(batch) for run in window[: len(stored)] for batch in run)
            rows = pa.Table.from_batches(batches, CONVERSATION).combine_chunks()
            yield rows.take(self._longest(rows, known))

    def _longest(self, rows: pa.Table, known: int) -> list[int]:
        """The places of the rows that are kept, ordered by id; the first `known` rows are stored already."""
        best: dict[str, int] = {}
        lengths = extents(rows)
        for place, name in enumerate(rows["conversation_id"].to_pylist()):
            if best.setdefault(name, place) == place:
                self._tally["accepted"] += place >= known
            elif lengths[place] > lengths[best[name]]:
                self._tally["updated"] += 1
                best[name] = place
            else:
                self._tally["duplicate"] += 1
        return [best[name] for name in sorted(best)]

    def _commit_quarantine(self) -> None:
        self._quarantine.flush()
        known: set[int] = set()
        both = self._staging / "quarantine-all.jsonl"
        with both.open("wb") as out:
            for file in (self._folder.quarantine, self._staging / "quarantine.jsonl"):
                for line in file.open("rb") if file.exists() else ():
                    if (key := hash(line)) not in known:
                        known.add(key)
                        out.write(line)
        if known:
            self._folder.move_in(both, self._folder.quarantine.name)
