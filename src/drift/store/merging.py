"""Versions of the same conversation, merged: those that are stored and those that come."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from drift.records import Conversation, Message, Rating, RatingKind
from drift.store.joining import are_apart, join_parts, tags_of_both, text_of
from drift.store.rows import (
    ALL_IDS,
    NUMBERS,
    IdRange,
    content_hash,
    conversation_batch,
    conversation_of,
    file_batches,
    file_bytes,
    joined,
    with_numbers,
    write_conversations,
)
from drift.store.runs import Run, id_ranges, merged, runs_in

_COMPARED = ("content_hash", "user_key", "family")
"""Versions are equal if these columns are: content_hash leaves out the columns that depend on the store's salt."""
_FILLED_IN = ("user_key", "model", "language", "started_at", "family", "tools")
"""Where the longer version has none of these, the shorter version's is taken."""


@dataclass(frozen=True, slots=True)
class AddSummary:
    """What became of the added conversations. `updated`: it changed a stored one; `duplicate`: it changed nothing;
    `not_joined`: it holds other messages than the stored one of its id, whose order nothing tells, and was left out."""

    accepted: int = 0
    updated: int = 0
    duplicate: int = 0
    not_joined: int = 0


@dataclass(frozen=True, slots=True)
class MergedRange(AddSummary):
    """Of one range of ids. `rewritten`: ids of stored conversations whose labels no longer hold: their messages
    changed, or a regeneration was taken back."""

    rewritten: tuple[str, ...] = ()


def merge_range(
    out: Path, stored: Sequence[Path], added: Sequence[Path], number: int, ranges: int, this_write: int
) -> MergedRange:
    """Merge one range of ids: the files of the store with the runs that others wrote, in the order of `added`.

    `out`: the Parquet file of the range. `number`: of the range, among `ranges`.
    """
    ids, merge = id_ranges(ranges)[number], Merge(this_write)
    new = [runs_in(path, number) for path in added]
    size = sum(runs.bytes for runs in new) + sum(map(file_bytes, stored)) // ranges
    old = itertools.chain.from_iterable(file_batches(path, ids=ids) for path in stored)
    write_conversations(out, merge.tables(old, [run for runs in new for run in runs.runs], size, ids))
    return MergedRange(**merge.tally, rewritten=tuple(sorted(merge.rewritten)))


class Merge:
    """One row of every conversation. `this_write`: the number of the write, which what is new or changed gets.

    When all tables were taken, `tally` counts what became of the added conversations, and `rewritten` has the ids of
    the stored ones whose labels no longer hold.
    """

    def __init__(self, this_write: int) -> None:
        self._this_write = this_write
        self.tally: Counter[str] = Counter()
        self.rewritten: set[str] = set()

    def tables(self, stored: Run, new: Sequence[Run], size: int, ids: IdRange = ALL_IDS) -> Iterator[pa.Table]:
        """Yield one row per conversation, ordered by id, merged from all its versions. `size`: bytes of all runs."""
        for window in merged([stored, *new], size, ids):
            # Of each conversation: first the stored version, then the added ones in the order in which they came.
            batches = [batch for run in window for batch in run]
            stored_rows = sum(map(len, window[0]))
            if batches:
                yield self._one_of_each(joined(batches), stored_rows)

    def _one_of_each(self, rows: pa.Table, stored_rows: int) -> pa.Table:
        """One row per conversation, ordered by id. The first `stored_rows` of `rows` are stored already.

        What is new or updated gets the number of this write: a run that has read up to it knows what came since.
        """
        first: dict[str, int] = {}
        later: list[tuple[str, int]] = []  # further versions
        for place, name in enumerate(rows["conversation_id"].to_pylist()):
            if first.setdefault(name, place) != place:
                later.append((name, place))
        compared = _compared(rows, {place for name, again in later for place in (first[name], again)})
        several: dict[str, _Versions] = {}
        for name, place in later:
            if name not in several:
                several[name] = _Versions(first[name], compared[first[name]])
            several[name].add(place, compared[place], rows)
        merges: list[Conversation] = []  # conversations merged from several versions: appended behind the rows
        names = sorted(first)
        places = list(map(first.__getitem__, names))
        now = self._this_write
        began, changed = (
            [*rows[name][:stored_rows].to_pylist(), *[now] * (len(rows) - stored_rows)] for name in NUMBERS
        )
        began, changed = [began[place] for place in places], [changed[place] for place in places]
        self.tally["accepted"] += sum([place >= stored_rows for place in places])
        for row, name in enumerate(names) if several else ():
            if name not in several:
                continue
            winner, updates = self._settled(name, several[name], places[row] >= stored_rows)
            if isinstance(winner, Conversation):
                merges.append(winner)
                winner = len(rows) + len(merges) - 1
            places[row] = winner
            changed[row] = now if updates else changed[row]
        if merges:
            rows = joined([*rows.to_batches(), conversation_batch(merges)])
        return with_numbers(rows.take(places), began, changed)

    def _settled(self, name: str, versions: "_Versions", is_new: bool) -> "tuple[int | Conversation, int]":
        """Count what became of each version; returns the place of the row to store, or the merged conversation, and
        how many versions changed what is stored."""
        # Versions that contradict each other change nothing when all of them are added once more.
        updates = 0 if not is_new and versions.compared == versions.initial else versions.updates
        self.tally["updated"] += updates
        self.tally["duplicate"] += versions.added - versions.not_joined - updates
        self.tally["not_joined"] += versions.not_joined
        if versions.rewritten and updates and not is_new:
            self.rewritten.add(name)
        return versions.winner, updates


class _Versions:
    """Versions of one conversation. `winner`: a row's place, or the merge of several; `compared`: its _COMPARED."""

    def __init__(self, place: int, compared: list[str | None]) -> None:
        self.winner: int | Conversation = place
        self.compared = self.initial = compared
        self.added = self.updates = self.not_joined = 0
        self.rewritten = False

    def add(self, place: int, compared: list[str | None], rows: pa.Table) -> None:
        """Merge the version in row `place` into the winner."""
        self.added += 1
        if compared == self.compared:
            return
        old, new = _conversation(rows, self.winner), _conversation(rows, place)
        are_parts = old.of_rows and new.of_rows
        both = join_parts(old, new) if are_parts else None
        if are_parts and both is None and are_apart(old, new):
            self.not_joined += 1
            return
        both = both or merge_versions(old, new)
        kept = zip(both.messages, old.messages, strict=False)
        self.rewritten |= any(text_of(now) != text_of(then) for now, then in kept)
        self.rewritten |= any(rating.kind == "regeneration" and rating not in both.ratings for rating in old.ratings)
        of_both = [content_hash(both), both.user_key, both.family]
        if of_both != self.compared:
            self.updates += 1
            self.compared, self.winner = of_both, place if of_both == compared else both


def _compared(rows: pa.Table, places: Set[int]) -> dict[int, list[str | None]]:
    """The columns of _COMPARED of the rows in these places: of those that have other versions, which are few."""
    chosen = sorted(places)
    columns = (rows[name].take(chosen).to_pylist() if chosen else [] for name in _COMPARED)
    return dict(zip(chosen, map(list, zip(*columns, strict=True)), strict=True))


def merge_versions(old: Conversation, new: Conversation) -> Conversation:
    """The longer version's messages (at equal length the older's) with the ratings and tags of both.

    Where both rate the same reply or set the same tag (consent, for example), the longer version wins, at equal length
    the newer. But a tag that a shorter, newer version contradicts has the values of both, so that a consent which was
    taken back is none. What a version leaves out is not deleted: exports are often incomplete. But a regeneration is no
    judgement that somebody gave: it is read out of what the user did up to an export, and they may go back to the reply
    later. So only the longer (newer) version's count.
    """
    grown = len(new.messages) - len(old.messages)
    longer, weaker, stronger = (new, old, new) if grown > 0 else (old, new, old) if grown < 0 else (old, old, new)
    by_reply: dict[tuple[int, RatingKind], list[Rating]] = {}
    for version in (weaker, stronger):
        of_version: dict[tuple[int, RatingKind], list[Rating]] = {}
        for rating in version.ratings:
            if rating.kind == "regeneration" and version is weaker:
                continue
            if (place := _place_of(version.messages, rating.reply_index, longer.messages)) is not None:
                of_version.setdefault((place, rating.kind), []).append(replace(rating, reply_index=place))
        by_reply |= of_version
    ratings = sorted(itertools.chain.from_iterable(by_reply.values()), key=attrgetter("rank"))
    shorter = old if longer is new else new
    rest = {name: getattr(shorter, name) for name in _FILLED_IN if getattr(longer, name) is None}
    tags = {**weaker.tags, **stronger.tags}
    if stronger is old:
        places = {name: tag for name, tag in tags.items() if name.endswith("_turns")}
        tags = {**tags_of_both(old.tags, new.tags), **places}
    tags = {name: tag for name, tag in tags.items() if name != "cut_turns"}
    tags |= _cut_turns(longer, shorter)
    return replace(longer, ratings=tuple(ratings), tags=tags, **rest)


def _cut_turns(longer: Conversation, shorter: Conversation) -> dict[str, str]:
    """The tag that names the replies which either version calls cut, as the longer one numbers them. Of single calls,
    only the one that gave a reply says why it ended, and that may stand in yesterday's log."""
    places = [i for i in range(len(shorter.messages)) if shorter.finish_of(i) == "length"]
    moves = (_place_of(shorter.messages, place, longer.messages) for place in places)
    moved = [str(longer.messages[place].source_index) for place in moves if place is not None]
    own = longer.tags["cut_turns"].split(",") if "cut_turns" in longer.tags else []
    turns = sorted({*own, *moved}, key=lambda turn: (len(turn), turn))
    return {"cut_turns": ",".join(turns)} if turns else {}


def _place_of(messages: Sequence[Message], place: int, others: Sequence[Message]) -> int | None:
    """The place of a message among others: the same place, or the first with the same text; None if none has."""
    candidates = (place, *range(len(others)))
    return next((p for p in candidates if p < len(others) and text_of(others[p]) == text_of(messages[place])), None)


def _conversation(rows: pa.Table, place: int | Conversation) -> Conversation:
    if isinstance(place, Conversation):
        return place
    (row,) = rows.slice(place, 1).to_pylist()
    return conversation_of(row)
