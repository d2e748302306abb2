"""The stages that build pairs: files and store in, one file out; they count the rows written and dropped, by reason."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

from drift.config import LabelSettings, RecipeSettings, SamplingSettings
from drift.engine import current_engine
from drift.errors import DataError
from drift.pairs.defence import Defence
from drift.pairs.disliked import LabelReliability, lacks_old_turns, prompt_items, repair_pairs
from drift.pairs.form import in_one_form
from drift.pairs.in_pieces import DislikedFinder, LikedFinder, requests_in_pieces, write_in_pieces
from drift.pairs.majority import believed, majorities
from drift.pairs.news import Labelled, News, Since, trained_replies
from drift.pairs.others import follow_up_items, liked_items, liked_replies, random_items
from drift.pairs.probe import WORDS, form_accuracy, gives_sides_away
from drift.pairs.recipes import RECIPES, RecipeInputs, resize_to
from drift.pairs.screening import screened
from drift.progress import report_note
from drift.records import (
    Completion,
    Conversation,
    Counts,
    Drop,
    PreferencePair,
    PromptItem,
    Reason,
    Score,
    Split,
    Thinking,
    Verdict,
    read_jsonl,
    stable_hash,
    write_jsonl,
    write_kept,
)
from drift.store import Store
from drift.turns import as_text, is_disliked

MIN_AUDITED_LABELS = 20
HELD_OUT: tuple[Split, ...] = ("stop", "test")


@dataclass(frozen=True, slots=True)
class PairsSummary:
    prompts: str
    prompt_counts: Counts
    repairs: str
    repair_counts: Counts


def find_prompts(
    out: Path,
    store: Store,
    settings: LabelSettings,
    split: Split | None,
    since: Since | None = None,
    defence: Defence | None = None,
) -> Counts:
    """Write the PromptItems of one split, or of all splits; with `since`, only the new ones and a share of the rest."""
    reliability = label_reliability(store, settings)
    if since is None and defence is None and current_engine().workers > 1:
        disliked = DislikedFinder(settings.min_p_dsat, reliability, settings.max_per_user)
        return write_in_pieces(out, store, [split], disliked)
    repeats = _repeats(store)

    def items(labelled: Labelled) -> Iterator[PromptItem | Drop]:
        return prompt_items(labelled, settings.min_p_dsat, reliability, repeats, settings.max_per_user)

    found, counts = _found(items, store, split, since, about="DSAT")
    if defence is not None:
        found = _uncontested(found, defence, store, settings, split)
    return {**_write_items(out, found), **counts}


def _uncontested(
    found: Iterable[PromptItem | Drop], defence: Defence, store: Store, settings: LabelSettings, split: Split | None
) -> Iterable[PromptItem | Drop]:
    """What passes the defence's check of prompts, which looks for the same replies among all that were disliked."""
    return defence.of_prompts(found, lambda: prompt_items(store.labelled(split), settings.min_p_dsat))


def _write_items(out: Path, rows: Iterable[PromptItem | Drop]) -> Counts:
    """Write the items. `without_old_turns`: items of conversations so long that only their newest turns are kept."""
    cut = 0

    def counted() -> Iterator[PromptItem | Drop]:
        nonlocal cut
        for row in rows:
            cut += isinstance(row, PromptItem) and lacks_old_turns(row)
            yield row

    counts = write_kept(out, counted())
    return {**counts, "without_old_turns": cut} if cut else counts


def _found(
    find: Callable[[Labelled], Iterator[PromptItem | Drop]],
    store: Store,
    split: Split | None,
    since: Since | None,
    about: Verdict,
) -> tuple[Iterator[PromptItem | Drop], Mapping[str, int]]:
    """The items that `find` makes of a split, and counts that are complete when all items were taken."""
    if since is None:
        return find(store.labelled(split)), {}
    news = News(since)
    return news.sorted(find, partial(store.labelled, split), about), news.counts


def list_earlier(
    out: Path, generation: int, prompts: tuple[Path, ...], pairs: tuple[Path, ...], before: Path | None
) -> Counts:
    """Write what a chain was trained on up to `generation`, whose files these are; `before`: the list up to the one
    before it."""
    return {"rows": write_jsonl(out, trained_replies(generation, prompts, pairs, before))}


def find_heldout(out: Path, store: Store, settings: LabelSettings, prompts: Path, since: Since | None = None) -> Counts:
    """Write the PromptItems of the held-out splits.

    Requests that are also in `prompts`, or that an earlier generation was trained on, and conversations that nearly
    repeat another one, are dropped: the policy may have been trained on them.
    """
    trained = {int(stable_hash(item.prompt), 16) for item in read_jsonl(prompts, PromptItem)}
    if since is None and current_engine().workers > 1:
        disliked = DislikedFinder(settings.min_p_dsat, label_reliability(store, settings))
        return write_in_pieces(out, store, HELD_OUT, disliked, trained=trained)
    repeats = _repeats(store)
    if since is not None:
        requests, near = since.seen(store)
        trained, repeats = trained | requests, repeats | near
    labelled = (row for split in HELD_OUT for row in store.labelled(split))
    items = prompt_items(labelled, settings.min_p_dsat, label_reliability(store, settings), repeats)
    return _write_items(out, _unseen(items, trained))


def _repeats(store: Store) -> frozenset[str]:
    return frozenset(repeat.conversation_id for repeat in store.repeats())


def label_reliability(store: Store, settings: LabelSettings) -> LabelReliability:
    """How reliable the labels are, by the settings and the reviews (if at least MIN_AUDITED_LABELS were reviewed)."""
    reviewed = {(label.conversation_id, label.reply_index): label.label for label in store.labels_by("review")}
    audited = [
        (label.p_dsat, reviewed[key] == "DSAT")
        for label in (store.labels(reviewed=False) if reviewed else ())
        if label.p_dsat is not None
        and is_disliked(label, settings.min_p_dsat)
        and (key := (label.conversation_id, label.reply_index)) in reviewed
    ]
    promised, right = sum(p for p, _ in audited), sum(is_right for _, is_right in audited)
    correction = right / promised if len(audited) >= MIN_AUDITED_LABELS else 1.0
    return LabelReliability(frozenset(settings.include), settings.fresh_not_better, correction)


def _unseen(rows: Iterable[PromptItem | Drop], trained: set[int]) -> Iterator[PromptItem | Drop]:
    for row in rows:
        if isinstance(row, PromptItem) and int(stable_hash(row.prompt), 16) in trained:
            yield Drop(row.prompt_id, "heldout", Reason.SEEN_IN_TRAINING)
        else:
            yield row


def find_believed(out: Path, prompts: Path, own: Path) -> Counts:
    """Write the PromptItems whose complaint is not against the policy's own majority; `own`: its replies to them."""
    majority = majorities(read_jsonl(own, Completion))
    return {**write_kept(out, believed(read_jsonl(prompts, PromptItem), majority)), "with_majority": len(majority)}


def find_repairs(out: Path, prompts: Path, thinking: Thinking = "off", defence: Defence | None = None) -> Counts:
    """Write the DSAT -> SAT repairs among the items as pairs."""
    rows = in_one_form(repair_pairs(read_jsonl(prompts, PromptItem)), thinking, "repairs")
    if defence is not None:
        rows = defence.of_pairs(rows, {item.prompt_id: item for item in read_jsonl(prompts, PromptItem)})
    return write_kept(out, rows)


def find_liked(
    out: Path, store: Store, split: Split, min_p_sat: float, settings: LabelSettings, since: Since | None = None
) -> Counts:
    """Write the PromptItems of one split whose reply was liked; `since` as in `find_prompts`."""
    include = frozenset(settings.include)
    if since is None and current_engine().workers > 1:
        return write_in_pieces(out, store, [split], LikedFinder(min_p_sat, include, settings.max_per_user))
    repeats = _repeats(store)

    def find(labelled: Labelled) -> Iterator[PromptItem | Drop]:
        return liked_items(labelled, min_p_sat, repeats, settings.max_per_user, include)

    found, counts = _found(find, store, split, since, about="SAT")
    return {**_write_items(out, found), **counts}


def find_liked_replies(
    out: Path,
    store: Store,
    split: Split,
    min_p_sat: float,
    settings: LabelSettings,
    thinking: Thinking = "off",
    since: Since | None = None,
) -> Counts:
    """Write the replies of one split that users liked as pairs without a rejected reply, for SFT; `since` as in
    `find_prompts`."""
    include = frozenset(settings.include)
    if since is None and current_engine().workers > 1:
        replies = LikedFinder(min_p_sat, include, settings.max_per_user, thinking=thinking)
        return write_in_pieces(out, store, [split], replies)
    repeats = _repeats(store)

    def find(labelled: Labelled) -> Iterator[PromptItem | Drop]:
        return liked_items(labelled, min_p_sat, repeats, settings.max_per_user, include)

    found, counts = _found(find, store, split, since, about="SAT")
    return {**write_kept(out, in_one_form(liked_replies(found), thinking, "liked")), **counts}


def find_heldout_liked(
    out: Path,
    store: Store,
    min_p_sat: float,
    settings: LabelSettings,
    prompts: Path,
    thinking: Thinking = "off",
    since: Since | None = None,
) -> Counts:
    """Write the liked replies of the held-out splits, as `find_liked_replies` does those of the training split.

    Dropped are requests that are also in `prompts`, that a liked reply of the training split answers, or that an
    earlier generation was trained on, and conversations that nearly repeat another one: the policy may have been
    trained on them.
    """
    include = frozenset(settings.include)
    if since is None and current_engine().workers > 1:
        trained = {int(stable_hash(item.prompt), 16) for item in read_jsonl(prompts, PromptItem)}
        trained |= requests_in_pieces(LikedFinder(min_p_sat), store, "train")
        replies = LikedFinder(min_p_sat, include, settings.max_per_user, thinking=thinking)
        return write_in_pieces(out, store, HELD_OUT, replies, trained=trained)
    repeats = _repeats(store)
    of_train = chain(read_jsonl(prompts, PromptItem), liked_items(store.labelled("train"), min_p_sat, repeats))
    trained = {int(stable_hash(row.prompt), 16) for row in of_train if isinstance(row, PromptItem)}
    if since is not None:
        requests, near = since.seen(store)
        trained, repeats = trained | requests, repeats | near
    labelled = (row for split in HELD_OUT for row in store.labelled(split))
    items = _unseen(liked_items(labelled, min_p_sat, repeats, settings.max_per_user, include), trained)
    return write_kept(out, in_one_form(liked_replies(items), thinking, "liked"))


def find_judged(
    out: Path,
    store: Store,
    split: Split,
    settings: LabelSettings,
    min_p_sat: float,
    since: Since | None = None,
    defence: Defence | None = None,
) -> Counts:
    """Write the PromptItems of one split whose reply was disliked, then those whose reply was liked; `since` as in
    `find_prompts`."""
    include, reliability = frozenset(settings.include), label_reliability(store, settings)
    if since is None and defence is None and current_engine().workers > 1:
        most = settings.max_per_user
        both = DislikedFinder(settings.min_p_dsat, reliability, most), LikedFinder(min_p_sat, include, most)
        return write_in_pieces(out, store, [split], *both)
    repeats = _repeats(store)

    def disliked(labelled: Labelled) -> Iterator[PromptItem | Drop]:
        return prompt_items(labelled, settings.min_p_dsat, reliability, repeats, settings.max_per_user)

    def liked(labelled: Labelled) -> Iterator[PromptItem | Drop]:
        return liked_items(labelled, min_p_sat, repeats, settings.max_per_user, include)

    disliked_items, of_disliked = _found(disliked, store, split, since, about="DSAT")
    if defence is not None:
        disliked_items = _uncontested(disliked_items, defence, store, settings, split)
    items, of_liked = _found(liked, store, split, since, about="SAT")
    written = _write_items(out, chain(disliked_items, items))
    return {**written, **{name: count + of_liked[name] for name, count in of_disliked.items()}}


def find_follow_ups(
    out: Path, store: Store, split: Split, settings: LabelSettings, since: Since | None = None
) -> Counts:
    """Write the PromptItems of one split whose reply a message of the user follows; with `since`, of what came since
    alone: nothing is replayed."""
    labelled = store.labelled(split, after=since.read if since else None)
    items = follow_up_items(labelled, _repeats(store), settings.max_per_user, frozenset(settings.include))
    if since is None:
        return write_kept(out, items)
    counts = write_kept(out, since.without_trained(items))
    return {**counts, "new": counts["rows"]}


def find_random(out: Path, store: Store, prompts: Path, split: Split, seed: int, since: Since | None = None) -> Counts:
    """Write as many random turns of one split as `prompts` has rows; with `since`, of what came since alone."""
    count, after = sum(1 for _ in read_jsonl(prompts, PromptItem)), since.read if since else None
    repeats = _repeats(store)

    def conversations() -> Iterator[Conversation]:
        return (each for each in store.conversations(split, after=after) if each.conversation_id not in repeats)

    return _write_items(out, random_items(conversations, count, seed))


def build_pairs(
    out: Path,
    prompts: Path,
    completions: Path | None,
    recipe: RecipeSettings,
    sampling: SamplingSettings,
    scores: Path | None = None,
    unlearned: Path | None = None,
    thinking: Thinking = "off",
    defence: Defence | None = None,
) -> Counts:
    """Write the recipe's pairs, built from the prompts, the policy's completions and their scores.

    `repeated`: of the rows, those that stand here again to reach `recipe.pairs`.
    `form_accuracy`: how well a linear probe tells the sides apart by their first and last words (pairs/probe.py).
    """
    inputs = RecipeInputs(
        items={item.prompt_id: item for item in read_jsonl(prompts, PromptItem)},
        completions=tuple(read_jsonl(completions, Completion)) if completions else (),
        scores={(s.prompt_id, s.sample): s for s in read_jsonl(scores, Score)} if scores else {},
        unlearned=frozenset(read_jsonl(unlearned, str)) if unlearned else frozenset(),
        drop_unfinished=sampling.unfinished == "drop",
    )
    rows = screened(in_one_form(RECIPES[recipe.name](inputs), thinking, "pairs"), recipe)
    if defence is not None:
        rows = defence.of_pairs(rows, inputs.items)
    counts = write_kept(out, rows if recipe.pairs is None else resize_to(recipe.pairs, rows))
    repeated = {} if recipe.pairs is None else _repeated(out)  # large runs are not read once more
    return counts | repeated | _lengths(out) | _form(out) | _thoughts(inputs.completions, thinking)


def _form(pairs: Path) -> Counts:
    """How far the form of the replies gives their side away, with a warning where it does."""
    rows = [pair for pair in read_jsonl(pairs, PreferencePair) if pair.is_paired]
    accuracy = form_accuracy(rows)
    if accuracy is not None and gives_sides_away(accuracy, len({pair.prompt_id for pair in rows})):
        report_note(
            f"{pairs.name}: a linear probe tells chosen from rejected by their first and last {WORDS} words in "
            f"{accuracy:.0%} of the replies. If that is a stock phrase or a layout, the policy learns it and little "
            "else: read some pairs"
        )
    return {} if accuracy is None else {"form_accuracy": accuracy}


def _thoughts(completions: Sequence[Completion], thinking: Thinking) -> Counts:
    """Fresh replies whose thoughts were left out."""
    count = sum(bool(completion.reasoning and completion.text.strip()) for completion in completions)
    return {"thoughts_left_out": count} if count and thinking != "keep" else {}


def _repeated(pairs: Path) -> Counts:
    ids = [pair.pair_id for pair in read_jsonl(pairs, PreferencePair)]
    return {"repeated": len(ids) - len(set(ids))} if len(ids) > len(set(ids)) else {}


def _lengths(pairs: Path) -> Counts:
    """Median characters of both sides: if chosen replies are merely longer, the policy learns length."""
    rows = list(read_jsonl(pairs, PreferencePair))
    sides = {"chosen": [row.chosen for row in rows], "rejected": [row.rejected for row in rows]}
    lengths = {name: [len(as_text(reply[-1])) for reply in side if reply] for name, side in sides.items()}
    return {f"{name}_characters": median(counts) for name, counts in lengths.items() if counts}


def write_pairs(store: Store, out: Path, min_p_dsat: float) -> PairsSummary:
    """Write the PromptItems of all splits to `out` and the repair pairs beside it, to inspect or for other trainers.

    Raises DataError if the store is empty, or if nothing in it is labelled.
    """
    store.require_conversations()
    if not store.counts().labels:
        raise DataError(
            f"{store.path}: no reply is labelled. `drift label --store {store.path}` labels what users said about "
            "replies; if it finds nothing, no user reacted in these logs."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = LabelSettings(min_p_dsat=min_p_dsat)
    repairs = out.with_suffix(".repairs.jsonl")
    return PairsSummary(str(out), find_prompts(out, store, settings, None), str(repairs), find_repairs(repairs, out))
