"""Conversations on their way into a store: sorted runs on disk, merged with what is stored, in flat memory."""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from drift.records import Conversation, stable_hash
from drift.store.folder import Folder
from drift.store.rows import CONVERSATION, Quarantined, extent, file_rows, write_rows
from drift.store.runs import Packed, pack, run_rows, write_run

RUN_CHARACTERS = 32_000_000  # text that is sorted in memory before it goes to a run


@dataclass(frozen=True, slots=True)
class AddSummary:
    """What became of the conversations that were added: new, longer than the stored version, or neither."""

    accepted: int = 0
    updated: int = 0
    duplicate: int = 0


class StoreWriter:
    """Conversations on their way into a store (`Store.writer`). Nothing counts before `commit`."""

    def __init__(self, folder: Folder, staging: Path, quarantine: BinaryIO) -> None:
        self._folder = folder
        self._staging = staging
        self._quarantine = quarantine
        self._manifest = folder.manifest()
        self._runs: list[Path] = []
        self._pending: list[Packed] = []
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
        packed = pack(conversation)
        self._pending.append(packed)
        self._characters += packed.size
        if self._characters >= RUN_CHARACTERS:
            self._finish_run()

    def quarantine(self, entry: Quarantined) -> None:
        """Note a row that cannot be used. One that the store has noted before is not noted again."""
        self._quarantine.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def commit(self) -> AddSummary:
        """Merge what was added with what is stored; from here on it counts."""
        self._finish_run()
        manifest, merged = self._manifest, self._staging / "merged.parquet"
        if self._runs:
            write_rows(merged, CONVERSATION, self._winners())
        if self._tally["accepted"] or self._tally["updated"]:
            generation = manifest.generation + 1
            name = f"conversations/{generation:06d}.parquet"
            self._folder.move_in(merged, name)
            manifest = manifest.model_copy(update={"generation": generation, "conversations": (name,)})
        self._commit_quarantine()
        self._folder.save(manifest)
        return AddSummary(**self._tally)

    def outlook(self) -> AddSummary:
        """What `commit` would make of what was added; nothing is kept."""
        self._finish_run()
        deque(self._winners() if self._runs else (), maxlen=0)
        return AddSummary(**self._tally)

    def _finish_run(self) -> None:
        if self._pending:
            run = self._staging / f"run-{len(self._runs)}.jsonl"
            write_run(run, sorted(self._pending, key=itemgetter(0)))
            self._runs.append(run)
            self._pending, self._characters = [], 0

    def _winners(self) -> Iterator[dict[str, Any]]:
        """One row per conversation, ordered by id: the longest version, the stored or else the first of equals."""
        stored = [self._folder.path / name for name in self._manifest.conversations]
        runs = [zip(file_rows(file), itertools.repeat(True)) for file in stored]
        runs += [zip(run_rows(file), itertools.repeat(False)) for file in self._runs]
        # heapq.merge is stable: versions of one conversation come stored first, then in the order in which they came.
        in_order = heapq.merge(*runs, key=lambda pair: pair[0]["conversation_id"])
        best: dict[str, Any] | None = None
        for row, is_stored in in_order:
            if best is None or row["conversation_id"] != best["conversation_id"]:
                if best is not None:
                    yield best
                self._tally["accepted"] += not is_stored
                best = row
            else:
                longer = extent(row) > extent(best)
                self._tally["updated" if longer else "duplicate"] += 1
                best = row if longer else best
        if best is not None:
            yield best

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
