"""The stages that build pairs: files and store in, one file out; they count the rows written and dropped, by reason."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from drift.config import LabelSettings, RecipeSettings
from drift.errors import DataError
from drift.pairs.defence import Defence
from drift.pairs.disliked import LabelReliability, repair_pairs
from drift.pairs.find import (
    DislikedFinder,
    LikedFinder,
    requests_in,
    requests_of,
    write_items,
    write_rows,
    write_unseen,
)
from drift.pairs.form import PROBED_WORDS, form_accuracy, gives_sides_away, in_one_form
from drift.pairs.generation import Since, trained_replies
from drift.pairs.majority import believed, majorities
from drift.pairs.recipes import RECIPES, RecipeInputs, resize_to
from drift.pairs.screening import screened
from drift.pairs.unjudged import follow_up_items, random_items
from drift.progress import report_note
from drift.records import (
    Completion,
    Conversation,
    Counts,
    PreferencePair,
    PromptItem,
    Reason,
    Score,
    Split,
    Thinking,
    Unfinished,
    read_jsonl,
    write_jsonl,
    write_kept,
)
from drift.store import Store
from drift.turns import as_text, is_disliked

MIN_AUDITED_LABELS = 20


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
    return write_items(out, store, split, [_disliked(store, settings)], since, defence)


def _disliked(store: Store, settings: LabelSettings) -> DislikedFinder:
    return DislikedFinder(settings.min_p_dsat, label_reliability(store, settings), settings.max_per_user)


def _liked(min_p_sat: float, settings: LabelSettings, thinking: Thinking | None = None) -> LikedFinder:
    return LikedFinder(min_p_sat, frozenset(settings.include), settings.max_per_user, thinking)


def list_earlier(
    out: Path, generation: int, prompts: tuple[Path, ...], pairs: tuple[Path, ...], before: Path | None
) -> Counts:
    """Write what a chain was trained on up to `generation`, whose files these are; `before`: the list up to the one
    before it."""
    return {"rows": write_jsonl(out, trained_replies(generation, prompts, pairs, before))}


def find_heldout(
    out: Path,
    store: Store,
    settings: LabelSettings,
    prompts: Path,
    min_p_sat: float | None = None,
    since: Since | None = None,
) -> Counts:
    """Write the PromptItems of the held-out splits, but for what the policy may have been trained on (`write_unseen`).

    `prompts`: the file of those of the training split. `min_p_sat`: of the liked replies that the warm start learns
    from; None if it does not. No user has a limit here: nothing is trained on these.
    """
    trained = requests_of(read_jsonl(prompts, PromptItem))
    if min_p_sat is not None:
        trained |= _liked_requests(store, min_p_sat, settings)
    return write_unseen(out, store, replace(_disliked(store, settings), max_per_user=None), trained, since)


def _liked_requests(store: Store, min_p_sat: float, settings: LabelSettings) -> set[int]:
    """Hashes of the requests of the training split that drew a liked reply, whoever asked."""
    return requests_in(store, replace(_liked(min_p_sat, settings), max_per_user=None), "train")


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


def find_believed(out: Path, prompts: Path, own: Path) -> Counts:
    """Write the PromptItems whose complaint is not against the policy's own majority; `own`: its replies to them."""
    majority = majorities(read_jsonl(own, Completion))
    return {**write_kept(out, believed(read_jsonl(prompts, PromptItem), majority)), "with_majority": len(majority)}


def find_repairs(
    out: Path,
    prompts: Path,
    thinking: Thinking = "off",
    unfinished: Unfinished = "match",
    defence: Defence | None = None,
) -> Counts:
    """Write the DSAT -> SAT repairs among the items as pairs."""
    repairs = repair_pairs(read_jsonl(prompts, PromptItem), unfinished == "drop")
    rows = in_one_form(repairs, thinking)
    if defence is not None:
        rows = defence.of_pairs(rows, {item.prompt_id: item for item in read_jsonl(prompts, PromptItem)})
    return write_kept(out, rows)


def find_liked(
    out: Path, store: Store, split: Split, min_p_sat: float, settings: LabelSettings, since: Since | None = None
) -> Counts:
    """Write the PromptItems of one split whose reply was liked; `since` as in `find_prompts`."""
    return write_items(out, store, split, [_liked(min_p_sat, settings)], since)


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
    return write_items(out, store, split, [_liked(min_p_sat, settings, thinking)], since)


def find_heldout_liked(
    out: Path,
    store: Store,
    min_p_sat: float,
    settings: LabelSettings,
    prompts: Path,
    thinking: Thinking = "off",
    since: Since | None = None,
) -> Counts:
    """Write the liked replies of the held-out splits, as `find_liked_replies` does those of the training split, but for
    what the policy may have been trained on: `prompts`, and what a liked reply of the training split answers. No user
    has a limit here, as in `find_heldout`."""
    trained = requests_of(read_jsonl(prompts, PromptItem)) | _liked_requests(store, min_p_sat, settings)
    everyone = replace(_liked(min_p_sat, settings, thinking), max_per_user=None)
    return write_unseen(out, store, everyone, trained, since)


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
    return write_items(out, store, split, [_disliked(store, settings), _liked(min_p_sat, settings)], since, defence)


def find_follow_ups(
    out: Path, store: Store, split: Split, settings: LabelSettings, since: Since | None = None
) -> Counts:
    """Write the PromptItems of one split whose reply a message of the user follows; with `since`, of what came since
    alone: nothing is replayed."""
    labelled = store.labelled(split, after=since.read if since else None)
    items = follow_up_items(labelled, store.repeated(), settings.max_per_user, frozenset(settings.include))
    if since is None:
        return write_kept(out, items)
    counts = write_kept(out, since.without_trained(items))
    return {**counts, "new": counts["rows"]}


def find_random(out: Path, store: Store, prompts: Path, split: Split, seed: int, since: Since | None = None) -> Counts:
    """Write as many random turns of one split as `prompts` has rows; with `since`, of what came since alone."""
    count, after = sum(1 for _ in read_jsonl(prompts, PromptItem)), since.read if since else None
    repeats = store.repeated()

    def conversations() -> Iterator[Conversation]:
        return (each for each in store.conversations(split, after=after) if each.conversation_id not in repeats)

    return write_rows(out, random_items(conversations, count, seed))


def build_pairs(
    out: Path,
    prompts: Path,
    completions: Path | None,
    recipe: RecipeSettings,
    unfinished: Unfinished = "match",
    scores: Path | None = None,
    unlearned: Path | None = None,
    thinking: Thinking = "off",
    defence: Defence | None = None,
) -> Counts:
    """Write the recipe's pairs, built from the prompts, the policy's completions and their scores.

    `repeated`: of the rows, those that stand here again to reach `recipe.pairs`.
    `form_accuracy`: how well a linear probe tells the sides apart by their first and last words (pairs/form.py).
    """
    inputs = RecipeInputs(
        items={item.prompt_id: item for item in read_jsonl(prompts, PromptItem)},
        completions=tuple(read_jsonl(completions, Completion)) if completions else (),
        scores={(s.prompt_id, s.sample): s for s in read_jsonl(scores, Score)} if scores else {},
        unlearned=frozenset(read_jsonl(unlearned, str)) if unlearned else frozenset(),
        drop_unfinished=unfinished == "drop",
    )
    rows = screened(in_one_form(RECIPES[recipe.name](inputs), thinking), recipe)
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
            f"{pairs.name}: a linear probe tells chosen from rejected by their first and last {PROBED_WORDS} words in "
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
    prompts = {**find_prompts(out, store, settings, None), **no_consent(store)}
    return PairsSummary(str(out), prompts, str(repairs), find_repairs(repairs, out))


def no_consent(store: Store) -> Counts:
    """The conversations that are not learned from since they lack the required consent, as a drop; {} if none."""
    hidden = store.without_consent()
    return {f"dropped.{Reason.NO_CONSENT}": hidden} if hidden else {}
