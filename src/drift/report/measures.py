"""What the method assumes and whom it helped: p_imp by iteration, and preference accuracy by kind of complaint."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from drift.evaluation.results import PairImprovement
from drift.records import FeedbackLabel, PreferencePair, PromptItem, read_jsonl
from drift.report.files import read_json
from drift.rundir import RunView, layout
from drift.statistics import Share, paired_difference
from drift.store import ReviewedPreference, first_store

FEWEST = 5  # held-out complaints, of one kind or of all: from fewer, no difference or accuracy is shown


@dataclass(frozen=True, slots=True)
class Assumption:
    """How often the chosen reply of an iteration really beat the rejected one (DRIFT theorem 1: p_imp).

    `source`: who judged. `p_imp` None: nobody did, the method assumes it.
    """

    iteration: int
    source: str
    p_imp: float | None = None
    worse: float | None = None
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of complaint: how many, and preference accuracy before and after on the held-out ones.

    `gain`: the paired difference; None below FEWEST held-out ones.
    """

    name: str
    disliked: int
    held_out: int
    before: float | None = None
    after: float | None = None
    gain: Share | None = None


def assumptions(run: RunView) -> tuple[Assumption, ...]:
    return tuple(_assumption(run, k) for k in run.iterations)


def _assumption(run: RunView, k: int) -> Assumption:
    """By the truth where it is known, else by people, else by a scorer."""
    truth, pairs = (
        run.file(f"{layout.iteration(k)}/{layout.IMPROVEMENT}"),
        run.file(f"{layout.iteration(k)}/{layout.PAIRS}"),
    )
    if truth:
        improvement = read_json(truth, PairImprovement)
        return Assumption(k, "the world's truth", improvement.better, improvement.worse, improvement.pairs)
    rows = list(read_jsonl(pairs, PreferencePair)) if pairs else []
    reviewed = _reviewed(run, {row.pair_id for row in rows})
    if reviewed:
        return Assumption(k, "people, blind", *_shares(reviewed), len(reviewed))
    margins = [row.margin for row in rows if row.margin is not None]
    if margins:
        source = next(row.margin_source for row in rows if row.margin is not None)
        return Assumption(k, f"scorer {source}", *_shares([(m > 0) - (m < 0) for m in margins]), len(margins))
    return Assumption(k, "assumed")


def _reviewed(run: RunView, pair_ids: set[str]) -> list[int]:
    """What reviewers decided on these pairs: 1 the chosen reply is better, -1 the rejected one, 0 a tie."""
    store = first_store(run.store_folders)
    preferences = store.reviews.all(ReviewedPreference, run=run.path.name) if store else ()
    signs = {"chosen": 1, "tie": 0, "rejected": -1}
    return [signs[p.winner] for p in preferences if p.winner and p.pair_id in pair_ids]


def _shares(signs: list[int]) -> tuple[float, float]:
    """How often the chosen reply is better, and how often it is worse."""
    return sum(sign > 0 for sign in signs) / len(signs), sum(sign < 0 for sign in signs) / len(signs)


def kinds(
    run: RunView, subtypes: tuple[tuple[str, int], ...], before: Mapping[str, bool], after: Mapping[str, bool]
) -> tuple[Kind, ...]:
    """`subtypes`: kinds with their counts; `before`, `after`: was the policy right on each held-out prompt?"""
    kind_of = _kinds_held_out(run)
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for prompt_id in sorted(before.keys() & after.keys()):
        groups[kind_of.get(prompt_id, "unnamed")].append((float(before[prompt_id]), float(after[prompt_id])))
    return tuple(_kind(name, count, groups.get(name, [])) for name, count in subtypes)


def _kind(name: str, count: int, moved: list[tuple[float, float]]) -> Kind:
    if not moved:
        return Kind(name, count, 0)
    before, after = zip(*moved, strict=True)
    gain = paired_difference(before, after) if len(moved) >= FEWEST else None
    return Kind(name, count, len(moved), sum(before) / len(moved), sum(after) / len(moved), gain)


def _kinds_held_out(run: RunView) -> dict[str, str]:
    items, labels = run.file(layout.HELDOUT), run.file(layout.LABELS)
    if not items or not labels:
        return {}
    places = {(item.conversation_id, item.reply_index): item.prompt_id for item in read_jsonl(items, PromptItem)}
    return {
        places[place]: label.subtype or "unnamed"
        for label in read_jsonl(labels, FeedbackLabel)
        if (place := (label.conversation_id, label.reply_index)) in places
    }
