"""`drift rubric fit`: learns a rubric from labelled chats and writes it to a file that people can edit.

The rubric's scores go into a logistic regression; items that point the wrong way on held-out turns are dropped (SPUR).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from drift.config import EndpointSettings
from drift.endpoint import ANSWERS, Endpoint, Spending, probe
from drift.errors import DataError
from drift.feedback.gold import truth_of
from drift.feedback.judge.judge import JudgeLabeller, Turns
from drift.feedback.judge.prompt import prompt_version
from drift.feedback.judge.rubric import HARDEST, Item, Regression, Rubric, dump_rubric
from drift.feedback.judge.verdict import log_odds, regression_chance
from drift.feedback.judge.window import windows
from drift.feedback.label import check_writable
from drift.feedback.spur.extract import PROMPTS, ExtractedReason, RubricItemDraft, extract, summarise
from drift.records import Conversation, FeedbackLabel, Verdict, stable_hash
from drift.store import Store

INVERSE_L2_STRENGTH = 1.0
"""scikit-learn's C."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A labelled turn as the judge scored it. `weight`: the number of logged turns that it represents."""

    impacts: dict[str, int]
    dissatisfied: bool
    held_out: bool
    weight: float = 1.0
    p_server: float | None = None


@dataclass(frozen=True, slots=True)
class SignTest:
    """Held-out turns on which the item holds: `inside` its own class (dissatisfied for D items) and `outside`.

    `difference`: mean impact inside less outside. `kept`: it is above 0, and so the item points where it should.
    """

    item: str
    inside: int
    outside: int
    difference: float
    kept: bool


def sign_test(items: Sequence[Item], turns: Sequence[Scored]) -> list[SignTest]:
    held = [turn for turn in turns if turn.held_out]
    tests = []
    for item in items:
        is_dsat = item.id.startswith("D")
        own = [turn.impacts.get(item.id, 0) for turn in held if turn.dissatisfied == is_dsat]
        other = [turn.impacts.get(item.id, 0) for turn in held if turn.dissatisfied != is_dsat]
        difference = float(np.mean(own) - np.mean(other)) if own and other else 0.0
        inside, outside = (sum(impact > 0 for impact in part) for part in (own, other))
        tests.append(SignTest(item.id, inside, outside, round(difference, 4), kept=difference > 0))
    return tests


def regress(items: Sequence[Item], turns: Sequence[Scored]) -> Regression:
    """Fits the weighted turns that are not held out. The server's log-odds are a feature if every turn has them."""
    from sklearn.linear_model import LogisticRegression

    fit = [turn for turn in turns if not turn.held_out]
    with_server = all(turn.p_server is not None for turn in fit)
    x, y = _design(items, fit, with_server), np.asarray([turn.dissatisfied for turn in fit])
    model = LogisticRegression(C=INVERSE_L2_STRENGTH, max_iter=2000).fit(
        x, y, sample_weight=[turn.weight for turn in fit]
    )
    weights = model.coef_[0]
    return Regression(
        bias=round(float(model.intercept_[0]), 4),
        weights={item.id: round(float(w), 4) for item, w in zip(items, weights, strict=False)},
        server=round(float(weights[-1]), 4) if with_server else 0.0,
    )


def _design(items: Sequence[Item], turns: Sequence[Scored], with_server: bool) -> np.ndarray:
    """float64 [turns, items (+ 1)]: impacts scaled to 0..1, then the server's log-odds."""
    rows = [[turn.impacts.get(item.id, 0) / HARDEST for item in items] for turn in turns]
    if with_server:
        rows = [[*row, log_odds(turn.p_server or 0.0)] for row, turn in zip(rows, turns, strict=True)]
    return np.asarray(rows, dtype=np.float64)


ONE_IN_HELD_OUT = 3
"""One in so many conversations is held out, by hash."""
Places = list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class RubricSummary:
    """`held_out_auroc`: of the fitted p_dsat on held-out turns; None if they are all of one class."""

    rubric: str
    dsat_items: int
    sat_items: int
    dropped: list[str]
    reasons: dict[str, int]
    turns: dict[str, int]
    held_out_turns: int
    held_out_auroc: float | None
    server: str
    spending: Spending


def fit_rubric(
    store: Store, settings: EndpointSettings, out: Path, gold: Path | None, per_class: int, least: int
) -> RubricSummary:
    """Raises DataError if a class has fewer than `least` labelled turns, or if no item of a class survives the test."""
    check_writable("--out", out)
    store.require_conversations()
    chosen, sizes = _chosen(truth_of(store, gold), per_class, least)
    chats = _conversations(store, chosen)
    with Endpoint(settings, store.path / ANSWERS) as endpoint:
        able = probe(endpoint)
        drafts: dict[Verdict, list[RubricItemDraft]] = {}
        reasons: dict[Verdict, list[ExtractedReason]] = {}
        for verdict in ("DSAT", "SAT"):
            learnt_from = [place for place in chosen[verdict] if not _held_out(place[0])]
            seen = [window for name, turn in learnt_from for window in windows(chats[name], {turn})]
            reasons[verdict] = extract(endpoint, able, seen, verdict)
            drafts[verdict] = summarise(endpoint, able, reasons[verdict], verdict)
        draft = Rubric(name=out.stem, dsat=_items("D", drafts["DSAT"]), sat=_items("S", drafts["SAT"]))
        judge = JudgeLabeller(endpoint, able, draft, only=_turns(chosen))
        scored = _scored(judge, chats, chosen, sizes)
        rubric, tests = _kept(draft, scored)
        provenance = {
            "method": "SPUR: reasons, running summary, logistic regression",
            "model": endpoint.model,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "prompts": stable_hash(PROMPTS, prompt_version(draft)),
            "store": store.content_hash(),
            "turns": {name: len(places) for name, places in chosen.items()},
            "reasons": {name: len(extracted) for name, extracted in reasons.items()},
            "held_out_sign_test": [asdict(test) for test in tests],
            "dropped": {i.id: i.text for i in (*draft.dsat, *draft.sat) if i.id not in rubric.ids},
        }
        rubric = rubric.model_copy(update={"provenance": provenance})
        out.write_text(dump_rubric(rubric), encoding="utf-8")
        return RubricSummary(
            str(out), len(rubric.dsat), len(rubric.sat), [test.item for test in tests if not test.kept],
            {name: len(extracted) for name, extracted in reasons.items()}, {name: len(p) for name, p in chosen.items()},
            sum(turn.held_out for turn in scored), _auroc(rubric, scored), able.line(), endpoint.spending,
        )  # fmt: skip


def _chosen(
    truth: dict[tuple[str, int], Verdict], per_class: int, least: int
) -> tuple[dict[str, Places], dict[str, int]]:
    """Places (conversation, user turn) by class, at most `per_class`, one per conversation and class; and all sizes."""
    by_class: dict[str, Places] = {"DSAT": [], "SAT": [], "NEUTRAL": []}
    for (name, reply), verdict in sorted(truth.items(), key=lambda entry: stable_hash("rubric", *entry[0])):
        if verdict in by_class and name not in {conversation for conversation, _ in by_class[verdict]}:
            by_class[verdict].append((name, reply + 1))
    sizes = {name: len(places) for name, places in by_class.items()}
    if min(sizes["DSAT"], sizes["SAT"]) < least:
        raise DataError(
            f"a rubric needs at least {least} labelled conversations per class; there are "
            f"{sizes['DSAT']} DSAT and {sizes['SAT']} SAT. Label more (drift review), give --gold or lower --least."
        )
    return {name: places[:per_class] for name, places in by_class.items()}, sizes


def _turns(chosen: dict[str, Places]) -> Turns:
    only: Turns = {}
    for name, turn in (place for places in chosen.values() for place in places):
        only.setdefault(name, set()).add(turn)
    return only


def _scored(
    judge: JudgeLabeller, chats: dict[str, Conversation], chosen: dict[str, Places], sizes: dict[str, int]
) -> list[Scored]:
    """Every chosen turn, scored by the judge with the draft rubric, without those where it abstained."""
    verdicts = {place: name for name, places in chosen.items() for place in places}
    scored: list[Scored] = []
    for label in judge.label(chats[name] for name in sorted(chats)):
        verdict = verdicts.get((label.conversation_id, label.user_index or 0))
        if verdict is not None and label.label != "ABSTAIN":
            scored.append(_score(label, verdict, sizes[verdict] / len(chosen[verdict])))
    return scored


def _score(label: FeedbackLabel, verdict: str, weight: float) -> Scored:
    """A label has p_sat only if its probabilities are the server's."""
    p_server = label.p_dsat if label.p_sat is not None else None
    return Scored(dict(label.rubric), verdict == "DSAT", _held_out(label.conversation_id), weight, p_server)


def _kept(draft: Rubric, scored: Sequence[Scored]) -> tuple[Rubric, list[SignTest]]:
    tests = sign_test((*draft.dsat, *draft.sat), scored)
    kept = {test.item for test in tests if test.kept}
    dsat, sat = (tuple(item for item in items if item.id in kept) for items in (draft.dsat, draft.sat))
    fit = {turn.dissatisfied for turn in scored if not turn.held_out}
    if not dsat or not sat or len(fit) < 2:
        raise DataError(
            f"only {len(kept)} of {len(tests)} rubric items point the right way on held-out turns; each class needs "
            "one. Use a stronger model, or more labelled conversations."
        )
    rubric = draft.model_copy(update={"dsat": dsat, "sat": sat, "regression": regress((*dsat, *sat), scored)})
    return Rubric.model_validate(rubric.model_dump()), tests


def _auroc(rubric: Rubric, scored: Sequence[Scored]) -> float | None:
    from sklearn.metrics import roc_auc_score

    held = [turn for turn in scored if turn.held_out]
    truth = np.asarray([turn.dissatisfied for turn in held])
    if len(set(truth.tolist())) < 2:
        return None
    return round(float(roc_auc_score(truth, [regression_chance(rubric, t.impacts, t.p_server) for t in held])), 4)


def _items(letter: str, drafts: Sequence[RubricItemDraft]) -> tuple[Item, ...]:
    return tuple(Item(id=f"{letter}{n}", text=draft.text, support=draft.support) for n, draft in enumerate(drafts, 1))


def _held_out(conversation_id: str) -> bool:
    return int(stable_hash("rubric held out", conversation_id), 16) % ONE_IN_HELD_OUT == 0


def _conversations(store: Store, chosen: dict[str, Places]) -> dict[str, Conversation]:
    """The chosen conversations, by id."""
    names = {name for places in chosen.values() for name, _ in places}
    return {one.conversation_id: one for one in store.conversations() if one.conversation_id in names}
