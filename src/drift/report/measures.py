"""What the method assumes and whom it helped: p_imp by iteration, and preference accuracy by kind of complaint."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from drift.evaluation.results import Asker, Evaluation, PairImprovement
from drift.records import FeedbackLabel, PreferencePair, PromptItem, read_jsonl
from drift.report.files import read_json
from drift.report.words import of_whom
from drift.rundir import RunView, layout
from drift.statistics import Share, paired_difference, units_of
from drift.store import ReviewedPreference, shown_pair, store_of

FEWEST = 5  # held-out complaints (of one kind: users with one): from fewer, no accuracy or difference is shown


@dataclass(frozen=True, slots=True)
class Assumption:
    """How often the chosen reply of an iteration really beat the rejected one (DRIFT theorem 1: p_imp).

    `source`: who judged, or why `p_imp` is None: nobody did, the method assumes it. `by_scorer`: the recipe's scorer
    did, neither the truth nor people. `mean_score`: of all fresh replies, by that scorer. `left_out`: people's verdicts
    on other texts under the ids of these pairs; a run that is made again has some, and so has another run of its name.
    """

    iteration: int
    source: str
    p_imp: float | None = None
    worse: float | None = None
    pairs: int = 0
    by_scorer: bool = False
    mean_score: float | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class ComplaintKind:
    """One kind of complaint: how many, and preference accuracy before and after on the held-out ones.

    `gain`: the paired difference, over users; None for fewer than FEWEST of these. `of_whom`: how many users the
    held-out ones are of, if fewer.
    """

    name: str
    disliked: int
    held_out: int
    before: float | None = None
    after: float | None = None
    gain: Share | None = None
    of_whom: str = ""


def assumptions(run: RunView) -> tuple[Assumption, ...]:
    scored = {stage.name: stage.counts.get("mean_score") for stage in run.stages}
    return tuple(
        replace(_assumption(run, k), mean_score=scored.get(f"{layout.iteration(k)}/{layout.SCORES}"))
        for k in run.iterations
    )


def gamed(run: RunView, rows: Sequence[Assumption]) -> str:
    """A warning if the scorer's mean score of the fresh replies rose and p_imp, by the truth or by people, did not;
    empty if not.

    Scores are compared since the feedback reward was trained last: two rewards have two scales. So have two policies,
    and `self` and `hindsight` score by the policy of each iteration.
    """
    scorer = (run.settings.get("recipe") or {}).get("scorer") or {}
    if scorer.get("name") not in ("feedback", "reward_model", "judge"):
        return ""
    stages = {stage.name for stage in run.stages}
    since = max((k for k in run.iterations if f"{layout.iteration(k)}/{layout.FEEDBACK_REWARD}" in stages), default=0)
    judged = [
        (row, row.mean_score, row.p_imp)
        for row in rows
        if row.iteration >= since and not row.by_scorer and row.mean_score is not None and row.p_imp is not None
    ]
    if len(judged) < 2:
        return ""
    (first, score, p_imp), (last, last_score, last_p_imp) = judged[0], judged[-1]
    if last_score <= score or last_p_imp > p_imp:
        return ""
    return (
        f"From iteration {first.iteration} to {last.iteration} the scorer's mean score of the fresh replies rose from "
        f"{score:.3f} to {last_score:.3f}, and p_imp, by {last.source}, did not ({p_imp:.2f}, {last_p_imp:.2f}): the "
        "policy may have learned to please the scorer. Read some pairs, train the scorer again "
        "(recipe.scorer.feedback.retrain_every), or choose another one."
    )


def _assumption(run: RunView, k: int) -> Assumption:
    """By the truth where it is known, else by people, else by a scorer, unless it kept only what it prefers."""
    truth, pairs = (
        run.file(f"{layout.iteration(k)}/{layout.IMPROVEMENT}"),
        run.file(f"{layout.iteration(k)}/{layout.PAIRS}"),
    )
    if truth:
        improvement = read_json(truth, PairImprovement)
        return Assumption(k, "the world's truth", improvement.better, improvement.worse, improvement.pairs)
    rows = list(read_jsonl(pairs, PreferencePair)) if pairs else []
    reviewed, left_out = _reviewed(run, rows)
    margins = [row.margin for row in rows if row.margin is not None]
    if reviewed:
        found = Assumption(k, "people, blind", *_shares(reviewed), len(reviewed))
    elif margins:
        source = next(row.margin_source for row in rows if row.margin is not None)
        shares = _shares([(m > 0) - (m < 0) for m in margins])
        found = Assumption(k, f"scorer {source}", *shares, len(margins), by_scorer=True)
        if (run.settings.get("recipe") or {}).get("only_wins"):
            found = Assumption(
                k, f"assumed: scorer {source} kept the pairs that it prefers, and nobody else judged them"
            )
    else:
        found = Assumption(k, "assumed: these pairs were not judged" if rows else "no pair was made")
    return replace(found, left_out=left_out)


def _reviewed(run: RunView, pairs: Sequence[PreferencePair]) -> tuple[list[int], int]:
    """What reviewers decided on these pairs: 1 the chosen reply is better, -1 the rejected one, 0 a tie; and how many
    decided on other texts under the same ids."""
    store = store_of(run)
    preferences = list(store.reviews.all(ReviewedPreference, run=run.path.name)) if store else []
    judged = {preference.pair_id for preference in preferences}
    shown = {pair.pair_id: shown_pair(pair) for pair in pairs if pair.pair_id in judged}
    verdicts = [preference for preference in preferences if preference.winner and preference.pair_id in shown]
    valid = [verdict for verdict in verdicts if verdict.is_about(shown[verdict.pair_id])]
    signs = {"chosen": 1, "tie": 0, "rejected": -1}
    return [signs[verdict.winner] for verdict in valid if verdict.winner], len(verdicts) - len(valid)


def _shares(signs: list[int]) -> tuple[float, float]:
    """How often the chosen reply is better, and how often it is worse."""
    return sum(sign > 0 for sign in signs) / len(signs), sum(sign < 0 for sign in signs) / len(signs)


def kinds(
    run: RunView, subtypes: tuple[tuple[str, int], ...], before: Evaluation, after: Evaluation
) -> tuple[ComplaintKind, ...]:
    """`subtypes`: kinds with their counts; `before`, `after`: of the first and of the kept policy."""
    kind_of = _kinds_held_out(run)
    first, last = (
        {pair.prompt_id: float(pair.right) for pair in evaluation.preference.each} if evaluation.preference else {}
        for evaluation in (before, after)
    )
    groups: dict[str, list[str]] = defaultdict(list)
    for prompt_id in sorted(first.keys() & last.keys()):
        groups[kind_of.get(prompt_id, "unnamed")].append(prompt_id)
    moved = {name: ([first[i] for i in ids], [last[i] for i in ids], after.whose(ids)) for name, ids in groups.items()}
    return tuple(_kind(name, count, *moved.get(name, ([], [], []))) for name, count in subtypes)


def _kind(
    name: str, count: int, before: Sequence[float], after: Sequence[float], whose: Sequence[Asker]
) -> ComplaintKind:
    held_out, units = len(whose), units_of(whose)
    if not held_out:
        return ComplaintKind(name, count, 0)
    gain = paired_difference(before, after, units=units) if len(set(units)) >= FEWEST else None
    return ComplaintKind(name, count, held_out, sum(before) / held_out, sum(after) / held_out, gain, of_whom(whose))


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
