"""Judged replies in pieces: map and reduce, with the same files as one process.

Map: each piece writes the candidates of one range of conversations, and a row for each that says what it repeats and
whose it is. Reduce: one process reads these rows in the order of the ids and copies the candidates that stay.
"""

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import orjson

from drift.disk import new_file
from drift.engine import in_pieces
from drift.pairs.candidates import Finder, PromptCandidate, first_of_each, lacks_old_turns
from drift.records import Counts, Drop, Reason, Split, json_of, stable_hash
from drift.store import Store


@dataclass(frozen=True, slots=True)
class ItemLine:
    """A line of the file that a stage writes. `is_cut`: it is an item whose prompt lacks old turns. `request`: hash of
    its prompt."""

    line: bytes
    is_cut: bool
    request: int


LineCandidate = PromptCandidate[ItemLine]


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
        for row in finder.candidates(piece.store.labelled(piece.split), piece.store.repeated()):
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
                item = ItemLine(items.readline(), is_cut, request)
                yield PromptCandidate(prompt_id, user, None, content, item)


def requests_in_pieces(finder: Finder, store: Store, split: Split) -> set[int]:
    """Hashes of the prompts of a split's candidates."""
    with candidates_in_pieces(finder, store, [split]) as candidates:
        return {row.item.request for row in candidates if row.item is not None}


def write_in_pieces(
    out: Path, store: Store, splits: Sequence[Split | None], finders: Sequence[Finder], trained: Set[int] = frozenset()
) -> Counts:
    """Write what the finders keep of the splits, one finder after the other; the counts are those of `write_kept`, and
    `without_old_turns`. `trained`: hashes of requests that are dropped as seen."""
    drops: Counter[str] = Counter()
    count = cut = 0
    with out.open("wb") as lines:
        for finder in finders:
            with candidates_in_pieces(finder, store, splits) as candidates:
                for row in first_of_each(candidates, finder.max_per_user):
                    if isinstance(row, Drop) or row.request in trained:
                        reason = row.reason if isinstance(row, Drop) else Reason.SEEN_IN_TRAINING
                        drops[f"dropped.{reason}"] += 1
                    else:
                        lines.write(row.line)
                        count, cut = count + 1, cut + row.is_cut
    return {"rows": count, **drops, **({"without_old_turns": cut} if cut else {})}
