"""Search a store with finders, in one process or in pieces, and write what they find: the stages' common part."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from drift.engine import current_engine
from drift.pairs.defence import Defence
from drift.pairs.disliked import lacks_old_turns
from drift.pairs.finders import DislikedFinder, Finder, Labelled
from drift.pairs.in_pieces import requests_in_pieces, write_in_pieces
from drift.pairs.news import News, Since
from drift.records import Counts, Drop, PromptItem, Reason, Split, stable_hash, write_kept
from drift.store import Store

HELD_OUT: tuple[Split, ...] = ("stop", "test")


def write_found(
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
    found = (_written(finder, _found(finder, store, split, since, defence, of_news)) for finder in finders)
    return {**write_rows(out, chain.from_iterable(found)), **of_news}


def _found(
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
        found = finder.items(rows, repeats)
        if defence is None or not isinstance(finder, DislikedFinder):
            return found
        # the same replies are looked for among all that were disliked, whoever has reached their limit
        everyone = replace(finder, max_per_user=None)
        return defence.of_prompts(found, lambda: everyone.items(labelled(), frozenset()))

    news = None if since is None else News(since)
    yield from find(labelled()) if news is None else news.sorted(find, labelled, finder.about)
    of_news.update(news.counts if news else {})


def _written(finder: Finder, found: Iterable[PromptItem | Drop]) -> Iterator[object]:
    return (row if isinstance(row, Drop) else finder.row(row) for row in found)


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
        return write_in_pieces(out, store, HELD_OUT, [finder], trained)
    repeats = store.repeated()
    if since is not None:
        requests, near = since.seen(store)
        trained, repeats = trained | requests, repeats | near
    labelled = (row for split in HELD_OUT for row in store.labelled(split))
    return write_rows(out, _written(finder, _unseen(finder.items(labelled, repeats), trained)))


def _unseen(rows: Iterable[PromptItem | Drop], trained: set[int]) -> Iterator[PromptItem | Drop]:
    for row in rows:
        if isinstance(row, PromptItem) and int(stable_hash(row.prompt), 16) in trained:
            yield Drop(row.prompt_id, Reason.SEEN_IN_TRAINING)
        else:
            yield row


def requests_found(store: Store, finder: Finder, split: Split) -> set[int]:
    """Hashes of the requests that the finder finds in a split."""
    if current_engine().workers > 1:
        return requests_in_pieces(finder, store, split)
    return requests_of(finder.items(store.labelled(split), store.repeated()))


def requests_of(rows: Iterable[PromptItem | Drop]) -> set[int]:
    return {int(stable_hash(row.prompt), 16) for row in rows if isinstance(row, PromptItem)}
