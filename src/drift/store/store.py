"""The store as stages see it: conversations and labels, streamed through DuckDB in the order of ids."""

import hashlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa

from drift.errors import DataError
from drift.records import (
    Conversation,
    FeedbackLabel,
    LabelSource,
    ReadMark,
    Split,
    read_jsonl,
    stable_hash,
    write_jsonl,
)
from drift.rundir.fingerprints import code_version
from drift.rundir.view import RunView
from drift.store import queries
from drift.store.folder import Folder, folder_of_run_store
from drift.store.forget import forget_in, withdraw_from
from drift.store.forgotten import ForgetSummary, Forgotten, read_forgotten
from drift.store.reviews import PresentWords, Review, Reviews, labels_of, with_labels
from drift.store.rows import (
    ALL_IDS,
    GROUP_LABELS,
    IdRange,
    Quarantined,
    Repeat,
    conversation_of,
    has_numbers,
    label_of,
    write_label_rows,
    write_labels,
)
from drift.store.runs import id_ranges, ranges_for
from drift.store.splits import borders_query, split_query
from drift.store.writer import AddSummary, StoreWriter

RANGE_CONVERSATIONS = 2**13  # conversations in a piece of work: a second or two of it
_ROWS_PER_BATCH = 256  # rows that are Python objects at once


class Store:
    """A folder of conversations and labels. Opening one creates nothing; the first write does.

    `split`: "hash" takes the splits of ingestion. "time" takes the earliest 80 % of the conversations for training, the
    next 5 % each for stopping and validation, and the latest 10 % for testing; without a time they are for training.
    `marks`: what earlier generations of a chain read; they keep their splits in time order.
    Of a store with required consent, all that is read is what conversations with that consent hold.
    Raises DataError if `path` is a file, or a folder with other things in it.
    """

    def __init__(self, path: Path, split: Literal["hash", "time"] = "hash", marks: Sequence[ReadMark] = ()) -> None:
        self.path = path
        self.split_by: Literal["hash", "time"] = split
        self.marks = tuple(marks)
        self.ids: IdRange = ALL_IDS
        self._borders: tuple[float, ...] | None = None
        self.reviews = Reviews(path)
        self._words = PresentWords(partial(self._where, "conversation_id IN (SELECT unnest($ids))"))
        self._folder = Folder(path)

    def within(self, ids: IdRange) -> "Store":
        """The same store, of which only one range of ids is read: for processes that share the work."""
        part = Store(self.path, self.split_by, self.marks)
        part.ids, part._borders = ids, self.borders()  # these are of the whole store
        return part

    @property
    def name(self) -> str:
        """For messages about a piece of work."""
        return f"{self.path}, conversations {self.ids[0] or '0000'} to {self.ids[1] or 'ffff'}"

    def id_ranges(self) -> list[IdRange]:
        """Ranges of ids to share work by: a power of two, of at most RANGE_CONVERSATIONS each."""
        return id_ranges(ranges_for(self.size(), RANGE_CONVERSATIONS))

    def pieces(self, name: str, *plan: object) -> AbstractContextManager[Path]:
        """Lock the store and yield a folder for the pieces of some work on it.

        They are kept when the work is killed, until the store or `plan` changes. Without an error they are deleted.
        """
        repeats = self._folder.repeats.stat().st_mtime_ns if self._folder.repeats.exists() else 0
        state = (self._folder.manifest(), labels_of(self.decisions()), repeats, self.split_by, self.marks)
        return self._folder.working(name, stable_hash(*plan, state, code_version()))

    def conversations(
        self, split: Split | None = None, *, after: int | None = None, upto: int | None = None
    ) -> Iterator[Conversation]:
        """Yield all conversations (of one split), ordered by id, in flat memory.

        `after`, `upto`: only those that were added or changed last after, or up to, this number of `read_up_to`.
        """
        files = self._folder.manifest().conversations
        query, values = self._all()
        given: dict[str, Any] = {"split": split, "after": after, "upto": upto}
        bounds = {name: value for name, value in given.items() if value is not None}
        if bounds:
            number = self._number("last_ingested")
            conditions = {"split": "split = $split", "after": f"{number} > $after", "upto": f"{number} <= $upto"}
            query = f"FROM ({query}) WHERE {' AND '.join(conditions[name] for name in bounds)}"
        return map(conversation_of, self._rows(query, files, **values, **bounds))

    def provenance(self) -> Iterator[tuple[str, str, str | None, dict[str, str]]]:
        """Yield id, source, language and tags of every conversation, ordered by id. Reads no message."""
        query = "SELECT conversation_id, source, language, tags FROM read_parquet($files) ORDER BY conversation_id"
        for row in self._rows(query, self._folder.manifest().conversations):
            yield row["conversation_id"], row["source"], row["language"], dict(row["tags"])

    def conversation(self, conversation_id: str) -> Conversation | None:
        """The conversation with this id; None if it is not stored."""
        return next(self._where("conversation_id = $id", id=conversation_id), None)

    def by_source_id(self, source_id: str) -> Iterator[Conversation]:
        """Yield the conversations with this id in their log; several sources may use the same id."""
        return self._where("source_id = $id", id=source_id)

    def decisions(self) -> list[Review]:
        """What people decided on replies, in that order, without decisions on other words than are stored now."""
        return self._words.still_judged(list(self.reviews.all(Review)), self._folder.manifest().conversations)

    def outdated_reviews(self) -> int:
        """How many decisions of people do not count, since the words that they judged have changed."""
        return sum(1 for _ in self.reviews.all(Review)) - len(self.decisions())

    def labels(self, *, reviewed: bool = True) -> Iterator[FeedbackLabel]:
        """Yield the winning label of each judged reply, ordered by conversation and reply.

        A review wins over a rating, then a label of the source, a judge, the embedded labeller; of equals, the newest.
        `reviewed=False`: as if there were no reviews.
        """
        with self._label_files(reviewed) as files:
            yield from map(label_of, self._rows(queries.WINNERS, files))

    def labels_by(self, labeller: LabelSource) -> Iterator[FeedbackLabel]:
        """Yield this labeller's newest label of each reply, winning or not, ordered by conversation and reply."""
        with self._label_files() as files:
            yield from map(label_of, self._rows(queries.NEWEST, files, labeller=labeller))

    def labelled(
        self,
        split: Split | None = None,
        *,
        after: int | None = None,
        upto: int | None = None,
        labels: Iterable[FeedbackLabel] | None = None,
    ) -> Iterator[tuple[Conversation, list[FeedbackLabel]]]:
        """Yield conversations ordered by id, each with its winning labels ordered by reply, or [].

        `after`, `upto`: as in `conversations`. `labels`: these instead, in the order of `labels_by`.
        """
        chosen = self.labels() if labels is None else labels
        groups = itertools.groupby(chosen, key=lambda label: label.conversation_id)
        judged, group = next(groups, (None, iter(())))
        for conversation in self.conversations(split, after=after, upto=upto):
            while judged is not None and judged < conversation.conversation_id:
                judged, group = next(groups, (None, iter(())))
            yield conversation, list(group) if judged == conversation.conversation_id else []

    def size(self) -> int:
        """The number of conversations. Reads less than any other query."""
        return sum(row["n"] for row in self._rows(queries.COUNT, self._folder.manifest().conversations))

    def without_consent(self) -> int:
        """How many stored conversations are not read, since they lack the required consent."""
        files = self._folder.paths(self._folder.manifest().conversations)
        return sum(b["n"][0].as_py() for b in queries.stream(self.path, queries.COUNT, files, 1, {})) - self.size()

    def privacy(self) -> dict[str, Any]:
        """The settings of redaction and consent of the latest ingestion, for those that name none."""
        return self._folder.manifest().privacy

    def set_privacy(self, privacy: dict[str, Any]) -> None:
        """Note them. From here on, only conversations with `require_consent` are read, whatever the store holds."""
        self._folder.set_privacy(privacy)

    def news(self, after: int) -> tuple[int, int]:
        """How many conversations came after this number of `read_up_to`, and how many older ones changed since."""
        first, last = self._number("first_ingested"), self._number("last_ingested")
        query = f"""SELECT count(*) FILTER ({first} > $after) AS new, count(*) FILTER ({first} <= $after) AS changed
            FROM read_parquet($files) WHERE {last} > $after"""
        rows = self._rows(query, self._folder.manifest().conversations, after=after)
        return next(((row["new"], row["changed"]) for row in rows), (0, 0))

    def read_up_to(self) -> int:
        """The number of the latest write. A later ingestion gives what it adds or changes a higher number."""
        return self._folder.manifest().generation

    def borders(self) -> tuple[float, ...] | None:
        """With the split "time": the borders, in seconds since 1970, among what came after `marks`. None without."""
        if self.split_by == "hash" or self._borders is not None:
            return self._borders
        after = max((mark.ingested or 0 for mark in self.marks), default=-1)
        query, files = borders_query(self._number("first_ingested")), self._folder.manifest().conversations
        cuts = next((row["cuts"] for row in self._rows(query, files, after=after)), None)
        return None if cuts is None else tuple(cuts)

    def store_id(self) -> str:
        """The same for a store that was moved, another one for every other store."""
        return self._folder.manifest().store_id

    def counts(self) -> queries.StoreCounts:
        """Count conversations, messages, ratings, labels and quarantined rows."""
        manifest = self._folder.manifest()
        query, cuts = self._all()
        per_split = f"""SELECT split, count(*) AS n, sum(len(messages))::BIGINT AS messages,
            sum(len(ratings))::BIGINT AS ratings FROM ({query}) GROUP BY split"""
        splits = list(self._rows(per_split, manifest.conversations, **cuts))
        with self._label_files() as files:
            labels = list(self._rows(f"SELECT label, count(*) AS n FROM ({queries.WINNERS}) GROUP BY label", files))
        return queries.StoreCounts(
            conversations=sum(row["n"] for row in splits),
            messages=sum(row["messages"] for row in splits),
            ratings=sum(row["ratings"] for row in splits),
            quarantined=sum(1 for _ in self.quarantined()),
            splits={row["split"]: row["n"] for row in splits},
            labels={row["label"]: row["n"] for row in labels},
            outdated_reviews=self.outdated_reviews(),
        )

    def quarantined(self) -> Iterator[Quarantined]:
        """Yield the rows of logs that could not be used, in the order in which they were read."""
        if self._folder.quarantine.exists():
            yield from read_jsonl(self._folder.quarantine, Quarantined)

    def scratch(self) -> IO[bytes]:
        """A file on the store's disk for what does not fit into memory. It has no name, so a kill leaves nothing."""
        return tempfile.TemporaryFile(dir=self.path)

    def note_repeats(self, repeats: Iterable[Repeat]) -> int:
        """Replace the list of near-duplicates; returns how many there are."""
        with self._folder.staging() as staging:
            count = write_jsonl(staging / "repeats.jsonl", repeats)
            self._folder.move_in(staging / "repeats.jsonl", self._folder.repeats.name)
            return count

    def repeats(self) -> Iterator[Repeat]:
        """Yield the near-duplicates that `find_near_duplicates` noted."""
        if self._folder.repeats.exists():
            yield from read_jsonl(self._folder.repeats, Repeat)

    def repeated(self) -> frozenset[str]:
        """The conversations that nearly repeat another one."""
        return frozenset(repeat.conversation_id for repeat in self.repeats())

    def forgotten(self) -> Forgotten:
        """The tombstones of this store."""
        return read_forgotten(self._folder.forgotten, self._folder.manifest().salt)

    def forget(self, *, user: str | None = None, conversation: str | None = None) -> ForgetSummary:
        """Remove everything of one user or one conversation, and refuse it from now on.

        Ids are those of the log or those of the store. Raises DataError if the store does not know the id.
        """
        forgotten = self.forgotten()
        if not forgotten.users | forgotten.conversations:
            self.require_conversations()
        return forget_in(self._folder, user, conversation)

    def withdraw(self, conversation_ids: Set[str]) -> int:
        """Remove conversations, with their labels, until a log brings them again; returns how many were removed."""
        return withdraw_from(self._folder, conversation_ids)

    def require_conversations(self) -> None:
        """Raise DataError if the store is empty."""
        if not self.size():
            raise DataError(f"{self.path}: holds no conversations. Fill it: drift ingest LOGS --store {self.path}")

    def content_hash(self) -> str:
        """Hash of all conversations (16 hex digits). Equal for equal logs in any store and in any order of ingestion,
        unless versions of a conversation contradict each other."""
        return self._hash("SELECT content_hash FROM read_parquet($files)", self._folder.manifest().conversations)

    def label_hash(self, *, reviewed: bool = True) -> str:
        """Hash of the winning labels (16 hex digits). Labelling again with the same result does not change it."""
        with self._label_files(reviewed) as files:
            return self._hash(f"SELECT content_hash FROM ({queries.WINNERS})", files)

    def fingerprint(self) -> str:
        """Hash of everything that can be read through the store; a run compares it before it reuses a stage."""
        repeats = sorted(self.repeated())
        by_time = ["split by time", *self.marks] if self.split_by == "time" else []
        # The labels beneath the reviews are read too: comparing both shows how reliable the labels are.
        beneath = [self.label_hash(reviewed=False)] if labels_of(self.decisions()) else []
        users = self._hash(queries.GROUPS_OF_USERS, self._folder.manifest().conversations)  # whatever the store's salt
        return stable_hash(self.content_hash(), self.label_hash(), users, *beneath, *repeats, *by_time)

    def add(self, conversations: Iterable[Conversation]) -> AddSummary:
        """Store conversations; versions and parts of the same one are merged. On an error, none is stored."""
        with self.writer() as writer:
            for conversation in conversations:
                writer.add(conversation)
            return writer.commit()

    def add_labels(self, labels: Iterable[FeedbackLabel]) -> int:
        """Append labels; returns how many. A label that equals the labeller's newest one is not written again."""
        with self._folder.staging() as staging:
            new = staging / "labels.parquet"
            count = self.write_new_labels(new, labels, 0)
            self.adopt_labels([new] if count else [])
            return count

    def write_new_labels(self, out: Path, labels: Iterable[FeedbackLabel], before: int) -> int:
        """Write a file of those labels that the store does not hold yet, for `adopt_labels`; returns how many.

        `before`: how many labels at most come before these in the same write; labels are numbered in their order.
        """
        manifest, staged = self._folder.manifest(), out.with_name(f"{out.name}.staged")
        first = ((manifest.generation + 1) << 32) + before
        write_labels(staged, labels, first)
        try:
            files = (*manifest.labels, str(staged.absolute()))
            unknown = self._batches(queries.UNKNOWN_LABELS, files, GROUP_LABELS, staged=[str(staged)], first=first)
            return write_label_rows(out, unknown)
        finally:
            staged.unlink()

    def adopt_labels(self, files: Sequence[Path]) -> None:
        """Add the files of `write_new_labels`. Only while this process has the store's lock."""
        manifest = self._folder.manifest()
        if not files:
            return
        generation = manifest.generation + 1
        parts = [""] if len(files) == 1 else [f"-{number:04d}" for number in range(len(files))]
        names = tuple(f"labels/{generation:06d}{part}.parquet" for part in parts)
        for file, name in zip(files, names, strict=True):
            self._folder.move_in(file, name)
        self._folder.save(manifest.model_copy(update={"generation": generation, "labels": (*manifest.labels, *names)}))

    @contextmanager
    def writer(self) -> Iterator[StoreWriter]:
        """Open a transaction. Without `commit`, or on an error before it, the store does not change."""
        with (
            self._folder.staging() as staging,
            (staging / "quarantine.jsonl").open("wb") as quarantine,
            (staging / "runs").open("w+b") as runs,
        ):
            yield StoreWriter(self._folder, staging, quarantine, runs)

    def _all(self) -> tuple[str, dict[str, Any]]:
        """The query for all conversations with their splits, and its parameters."""
        files = self._folder.manifest().conversations
        if self.split_by == "hash" or not files:
            return queries.AS_INGESTED, {}
        cuts = self.borders()
        if cuts is None and not self.marks:
            raise DataError(
                f"{self.path}: evaluation.split=time needs a start time (started_at), but no conversation has one. "
                "Use evaluation.split=hash."
            )
        query, values = split_query(self._number("first_ingested"), self.marks, cuts)
        return query, dict(values)

    def _number(self, column: str) -> str:
        """One of the numbers of ingestions as SQL: 0 in files of earlier versions, and for what they held."""
        files = self._folder.manifest().conversations
        numbered = bool(files) and has_numbers(self.path / files[0])
        return f"coalesce({column}, 0)" if numbered else "0"

    def _where(self, condition: str, **values: Any) -> Iterator[Conversation]:
        query = f"{queries.AS_INGESTED} WHERE {condition}"
        return map(conversation_of, self._rows(query, self._folder.manifest().conversations, **values))

    def _label_files(self, reviewed: bool = True) -> AbstractContextManager[tuple[str, ...]]:
        """The store's label files and, written to a temporary file, the reviews."""
        return with_labels(self._folder.manifest().labels, labels_of(self.decisions()) if reviewed else [])

    def _rows(self, query: str, files: Iterable[str], **values: Any) -> Iterator[dict[str, Any]]:
        """Stream the rows of a query over Parquet files of this store."""
        for batch in self._batches(query, files, _ROWS_PER_BATCH, **values):
            yield from batch.to_pylist()

    def _batches(self, query: str, files: Iterable[str], size: int, **values: Any) -> Iterator[pa.RecordBatch]:
        if self.ids != ALL_IDS:
            query, values = queries.of_range(query, self.ids, values)
        manifest, names, paths = self._folder.manifest(), tuple(files), self._folder.paths
        about = () if names == manifest.conversations else manifest.conversations
        query, required = queries.with_consent(query, manifest.consent, paths(about))
        yield from queries.stream(self.path, query, paths(names), size, values | required)

    def _hash(self, query: str, files: Iterable[str]) -> str:
        digest = hashlib.sha256()
        for row in self._rows(query, files):
            digest.update(row["content_hash"].encode())
        return digest.hexdigest()[:16]


def store_of(run: RunView) -> Store | None:
    """The store that the run has read; None if it is gone."""
    return Store(folder) if (folder := folder_of_run_store(run)) else None
