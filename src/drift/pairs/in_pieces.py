"""Judged replies in pieces: map and reduce, with the same files as one process.

Map: each piece writes the candidates of one range of conversations, and a row for each that says what it repeats and
whose it is. Reduce: one process reads these rows in the order of the ids and copies the candidates that stay.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Protocol

import orjson

from drift.disk import new_file
from drift.engine import in_pieces
from drift.pairs.disliked import LabelReliability, PromptCandidate, candidates, first_of_each, lacks_old_turns
from drift.pairs.form import in_one_form
from drift.pairs.others import liked_candidates, liked_replies
from drift.records import Counts, Drop, PromptItem, Reason, Split, Thinking, json_of, stable_hash
from drift.store import Store


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line of the file that a stage writes. `is_cut`: it is an item whose prompt lacks old turns. `request`: hash of
    its prompt."""

    line: bytes
    is_cut: bool
    request: int


LineCandidate = PromptCandidate[FoundLine]


class Finder(Protocol):
    """What a piece looks for. `name`: of the work on the store. `plan`: the settings, which tell it from other work."""

    @property
    def name(self) -> str: ...

    @property
    def plan(self) -> object: ...

    def candidates(self, store: Store, split: Split | None) -> Iterator[PromptCandidate[PromptItem]]: ...

    def kept(self, rows: Iterable[LineCandidate]) -> Iterator[FoundLine | Drop]:
        """Reduce."""
        ...

    def row(self, item: PromptItem) -> object:
        """What the stage writes of an item."""
        ...


@dataclass(frozen=True, slots=True)
class DislikedFinder:
    """The items of disliked replies (`prompt_items`)."""

    min_p_dsat: float
    reliability: LabelReliability
    max_per_user: int | None = None
    name: str = "prompts"

    @property
    def plan(self) -> object:
        known = self.reliability
        return [self.min_p_dsat, sorted(known.include), known.fresh_not_better, known.correction]

    def candidates(self, store: Store, split: Split | None) -> Iterator[PromptCandidate[PromptItem]]:
        return candidates(store.labelled(split), self.min_p_dsat, self.reliability, _repeats(store))

    def kept(self, rows: Iterable[LineCandidate]) -> Iterator[FoundLine | Drop]:
        return first_of_each(rows, self.max_per_user)

    def row(self, item: PromptItem) -> PromptItem:
        return item


@dataclass(frozen=True, slots=True)
class LikedFinder:
    """The items of liked replies (`liked_items`). `thinking`: they are written as replies for SFT, in this form."""

    min_p_sat: float = 0.0
    include: frozenset[str] = frozenset()
    max_per_user: int | None = None
    thinking: Thinking | None = None
    name: str = "liked"

    @property
    def plan(self) -> object:
        return [self.min_p_sat, sorted(self.include), self.thinking]

    def candidates(self, store: Store, split: Split | None) -> Iterator[PromptCandidate[PromptItem]]:
        return liked_candidates(store.labelled(split), self.min_p_sat, _repeats(store), self.include)

    def kept(self, rows: Iterable[LineCandidate]) -> Iterator[FoundLine | Drop]:
        return first_of_each(rows, self.max_per_user)

    def row(self, item: PromptItem) -> object:
        if self.thinking is None:
            return item
        (reply,) = in_one_form(liked_replies([item]), self.thinking, "liked")
        return reply


def _repeats(store: Store) -> frozenset[str]:
    return frozenset(repeat.conversation_id for repeat in store.repeats())


@dataclass(frozen=True, slots=True)
class CandidatesOfRange:
    """How many candidates and drops a range of conversations has."""

    candidates: int
    drops: int


@dataclass(frozen=True, slots=True)
class RangePiece:
    """The conversations of one split in a range of ids. `items`, `rows`: the files that its piece writes."""

    split: Split | None
    store: Store
    items: Path
    rows: Path

    @property
    def name(self) -> str:
        return self.store.name


@contextmanager
def candidates_in_pieces(
    finder: Finder, store: Store, splits: Sequence[Split | None]
) -> Iterator[Iterator[LineCandidate]]:
    """The candidates of the splits, one split after the other, found with the current engine. Their files last as long
    as the block."""
    with store.pieces(finder.name, finder.plan, list(splits)) as folder:
        parts = product(splits, [store.within(ids) for ids in store.id_ranges()])
        pieces = [
            RangePiece(split, part, folder / f"{number:05d}.items", folder / f"{number:05d}.rows")
            for number, (split, part) in enumerate(parts)
        ]
        in_pieces(partial(find_candidates, finder), pieces, CandidatesOfRange, folder / "journal", len(pieces))
        yield (row for piece in pieces for row in _read(piece))


def find_candidates(finder: Finder, piece: RangePiece) -> CandidatesOfRange:
    """Map: write the candidates of one range of conversations, and a row for each of them and for each drop."""
    counts: Counter[bool] = Counter()
    with (
        new_file(piece.items) as items_path,
        new_file(piece.rows) as rows_path,
        items_path.open("wb") as items,
        rows_path.open("wb") as rows,
    ):
        for row in finder.candidates(piece.store, piece.split):
            counts[row.item is None] += 1
            is_cut, request = False, 0
            if row.item is not None:
                written, request = finder.row(row.item), int(stable_hash(row.item.prompt), 16)
                is_cut = written is row.item and lacks_old_turns(row.item)
                items.write(json_of(written, orjson.OPT_APPEND_NEWLINE))
            note = (row.prompt_id, row.user, row.reason, row.content, is_cut, request)
            rows.write(orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE))
    return CandidatesOfRange(counts[False], counts[True])


def _read(piece: RangePiece) -> Iterator[LineCandidate]:
    with piece.items.open("rb") as items, piece.rows.open("rb") as rows:
        for line in rows:
            prompt_id, user, reason, content, is_cut, request = orjson.loads(line)
            if reason is not None:
                yield PromptCandidate(prompt_id, user, Reason(reason))
            else:
                found = FoundLine(items.readline(), is_cut, request)
                yield PromptCandidate(prompt_id, user, None, content, found)


def requests_in_pieces(finder: Finder, store: Store, split: Split) -> set[int]:
    """Hashes of the prompts of a split's candidates."""
    with candidates_in_pieces(finder, store, [split]) as found:
        return {row.item.request for row in found if row.item is not None}


def write_in_pieces(
    out: Path, store: Store, splits: Sequence[Split | None], *finders: Finder, trained: Set[int] = frozenset()
) -> Counts:
    """Write what the finders keep of the splits, one finder after the other; the counts are those of `write_kept`, and
    `without_old_turns`. `trained`: hashes of requests that are dropped as seen."""
    drops: Counter[str] = Counter()
    count = cut = 0
    with out.open("wb") as lines:
        for finder in finders:
            with candidates_in_pieces(finder, store, splits) as found:
                for row in finder.kept(found):
                    if isinstance(row, Drop) or row.request in trained:
                        reason = row.reason if isinstance(row, Drop) else Reason.SEEN_IN_TRAINING
                        drops[f"dropped.{reason}"] += 1
                    else:
                        lines.write(row.line)
                        count, cut = count + 1, cut + row.is_cut
    return {"rows": count, **drops, **({"without_old_turns": cut} if cut else {})}
