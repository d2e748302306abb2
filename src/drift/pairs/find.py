"""Find judged replies in a store and write them as the rows of a stage, in one process or in pieces.

A finder says which replies: those that were disliked, or those that were liked.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from drift.engine import current_engine
from drift.pairs.candidates import Finder, Labelled, PromptCandidate, lacks_old_turns
from drift.pairs.defence import Defence
from drift.pairs.disliked import LabelReliability, disliked_candidates, prompt_items
from drift.pairs.form import in_one_form
from drift.pairs.generation import News, Since
from drift.pairs.in_pieces import requests_in_pieces, write_in_pieces
from drift.pairs.liked import liked_candidates, liked_items, liked_replies
from drift.records import Counts, Drop, PromptItem, Reason, Split, Thinking, Verdict, stable_hash, write_kept
from drift.store import Store

HELD_OUT_SPLITS: tuple[Split, ...] = ("stop", "test")


@dataclass(frozen=True, slots=True)
class DislikedFinder:
    """The items of disliked replies (`prompt_items`)."""

    min_p_dsat: float
    reliability: LabelReliability
    max_per_user: int | None = None
    name: str = "prompts"
    about: Verdict = "DSAT"

    @property
    def plan(self) -> object:
        labels = self.reliability
        return [self.min_p_dsat, sorted(labels.include), labels.fresh_not_better, labels.correction]

    def items(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptItem | Drop]:
        return prompt_items(labelled, self.min_p_dsat, self.reliability, repeats, self.max_per_user)

    def candidates(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptCandidate[PromptItem]]:
        return disliked_candidates(labelled, self.min_p_dsat, self.reliability, repeats)

    def row(self, item: PromptItem) -> PromptItem:
        return item


@dataclass(frozen=True, slots=True)
class LikedFinder:
    """The items of liked replies (`liked_items`). `thinking`: they are written as replies for SFT, in this form."""

    min_p_sat: float
    include: frozenset[str] = frozenset()
    max_per_user: int | None = None
    thinking: Thinking | None = None
    name: str = "liked"
    about: Verdict = "SAT"

    @property
    def plan(self) -> object:
        return [self.min_p_sat, sorted(self.include), self.thinking]

    def items(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptItem | Drop]:
        return liked_items(labelled, self.min_p_sat, repeats, self.max_per_user, self.include)

    def candidates(self, labelled: Labelled, repeats: frozenset[str]) -> Iterator[PromptCandidate[PromptItem]]:
        return liked_candidates(labelled, self.min_p_sat, repeats, self.include)

    def row(self, item: PromptItem) -> object:
        if self.thinking is None:
            return item
        (reply,) = in_one_form(liked_replies([item]), self.thinking)
        return reply


def write_items(
    out: Path,
    store: Store,
    split: Split | None,
    finders: Sequence[Finder],
    since: Since | None,
    defence: Defence | None = None,
) -> Counts:
    """Write what the finders find in a split, one finder after the other; with `since`, only what is new and a share of
    the rest."""
    if since is None and defence is None and current_engine().workers > 1:
        return write_in_pieces(out, store, [split], finders)
    of_news: Counter[str] = Counter()
    rows = (_rows(finder, _items(finder, store, split, since, defence, of_news)) for finder in finders)
    return {**write_rows(out, chain.from_iterable(rows)), **of_news}


def _items(
    finder: Finder,
    store: Store,
    split: Split | None,
    since: Since | None,
    defence: Defence | None,
    of_news: Counter[str],
) -> Iterator[PromptItem | Drop]:
    """What the finder finds in a split, in one process. `of_news`: how many are new and replayed is added to it."""
    labelled, repeats = partial(store.labelled, split), store.repeated()

    def find(rows: Labelled) -> Iterator[PromptItem | Drop]:
        items = finder.items(rows, repeats)
        if defence is None or not isinstance(finder, DislikedFinder):
            return items
        # the same replies are looked for among all that were disliked, whoever has reached their limit
        everyone = replace(finder, max_per_user=None)
        return defence.of_prompts(items, lambda: everyone.items(labelled(), frozenset()))

    news = None if since is None else News(since)
    yield from find(labelled()) if news is None else news.sorted(find, labelled, finder.about)
    of_news.update(news.counts if news else {})


def _rows(finder: Finder, items: Iterable[PromptItem | Drop]) -> Iterator[object]:
    return (item if isinstance(item, Drop) else finder.row(item) for item in items)


def write_rows(out: Path, rows: Iterable[object]) -> Counts:
    """Write the rows. `without_old_turns`: items of conversations so long that only their newest turns are kept."""
    cut = 0

    def counted() -> Iterator[object]:
        nonlocal cut
        for row in rows:
            cut += isinstance(row, PromptItem) and lacks_old_turns(row)
            yield row

    counts = write_kept(out, counted())
    return {**counts, "without_old_turns": cut} if cut else counts


def write_unseen(out: Path, store: Store, finder: Finder, trained: set[int], since: Since | None) -> Counts:
    """Write what the finder finds in the held-out splits, but no request in `trained` (hashes), none that an earlier
    generation was trained on, and no conversation that nearly repeats another one: the policy may have been trained on
    them."""
    if since is None and current_engine().workers > 1:
        return write_in_pieces(out, store, HELD_OUT_SPLITS, [finder], trained)
    repeats = store.repeated()
    if since is not None:
        requests, near = since.seen(store)
        trained, repeats = trained | requests, repeats | near
    labelled = (row for split in HELD_OUT_SPLITS for row in store.labelled(split))
    return write_rows(out, _rows(finder, _unseen(finder.items(labelled, repeats), trained)))


def _unseen(rows: Iterable[PromptItem | Drop], trained: set[int]) -> Iterator[PromptItem | Drop]:
    for row in rows:
        if isinstance(row, PromptItem) and int(stable_hash(row.prompt), 16) in trained:
            yield Drop(row.prompt_id, Reason.SEEN_IN_TRAINING)
        else:
            yield row


def requests_in(store: Store, finder: Finder, split: Split) -> set[int]:
    """Hashes of the requests that the finder finds in a split."""
    if current_engine().workers > 1:
        return requests_in_pieces(finder, store, split)
    return requests_of(finder.items(store.labelled(split), store.repeated()))


def requests_of(rows: Iterable[PromptItem | Drop]) -> set[int]:
    return {int(stable_hash(row.prompt), 16) for row in rows if isinstance(row, PromptItem)}
