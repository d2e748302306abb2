"""The target of the gate: on held-out complaints, are NEW's answers better than OLD's?

Who decides: a judge, a reward model, the sandbox's truth, or (without any of them) the feedback reward: a classifier
that learns from the store's own labels what users like, and is refused if it cannot tell (scoring/feedback_reward.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drift.config import FeedbackRewardSettings, LabelSettings, WarmStartSettings
from drift.endpoint.cost import CostEstimate
from drift.errors import ConfigError
from drift.evals.pairwise.heldout import UNLABELLED, HeldOut
from drift.evals.replies import EvalRequest, policy_settings, policy_source
from drift.gate.paired import group_mean, mean_change
from drift.gate.results import GuardResult, LostItem
from drift.gate.verdict import amount_result, levels_of, with_skipped
from drift.records import Completion, Truth, stable_hash
from drift.scoring.feedback_reward import QUALITY, JudgedTurnSettings, fit_feedback_reward
from drift.scoring.judges import PairJudge, ReplyPair, RewardJudge
from drift.statistics import unit_name, units_in_words, units_of
from drift.store import Store

MAX_LENGTH = 8192
"""Tokens of a conversation that a reward model reads."""

TIE = 0.5


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """Of one request: how good OLD's and NEW's answers are (for a judge 0 or 1/2 or 1, and they sum up to 1)."""

    complaint: HeldOut
    old: float
    new: float


def complaints_of_truth(truth: Truth) -> list[HeldOut]:
    """The sandbox's held-out requests; each is a conversation of its own."""
    ids = [stable_hash("truth", prompt) for prompt in truth.prompts]
    requests = map(EvalRequest, ids, truth.prompts)
    return [HeldOut(request, i, UNLABELLED, user=i, chat=i) for i, request in zip(ids, requests, strict=True)]


def feedback_judge(old: str, store: Store, folder: Path, dtype: str, seed: int) -> RewardJudge:
    """Learns from the store's labels, starting from OLD's weights; kept in `folder`, which is for these weights and
    labels alone. Raises DataError if it is useless.

    It starts from OLD and never from NEW: a model must not be its own judge.
    """
    settings = policy_settings(old, dtype)
    if not (folder / QUALITY).is_file():  # it is written last
        which = JudgedTurnSettings.of(LabelSettings(), WarmStartSettings())
        reward = FeedbackRewardSettings()
        fit_feedback_reward(folder, store, policy_source(old), reward, settings, MAX_LENGTH, seed, which)
    return RewardJudge(str(folder), dtype, MAX_LENGTH, settings)


def judged_outcomes(
    complaints: Sequence[HeldOut], old: Mapping[str, Completion], new: Mapping[str, Completion], judge: PairJudge
) -> tuple[list[RequestOutcome], dict[str, int]]:
    """Equal answers are a tie and are not judged. Second: the items that could not be compared, by reason."""
    skipped: dict[str, int] = {}
    pairs, outcomes = [], []
    for item in complaints:
        key = item.request.item_id
        if key not in old or key not in new:
            skipped["no answer"] = skipped.get("no answer", 0) + 1
        elif old[key].text == new[key].text:
            outcomes.append(RequestOutcome(item, TIE, TIE))
        else:
            pairs.append((item, _pair(item, old[key], new[key])))
    for (item, _), decided in zip(pairs, judge.decide([pair for _, pair in pairs]), strict=True):
        if decided.value is None:
            reason = f"unscored: {decided.unscored_reason}"
            skipped[reason] = skipped.get(reason, 0) + 1
        else:
            outcomes.append(RequestOutcome(item, 1 - decided.value, decided.value))
    return outcomes, skipped


def judge_estimate(complaints: Sequence[HeldOut], judge: PairJudge, longest: str) -> CostEstimate | None:
    """The most that the judge costs: all answers differ and are as long as `longest`. None for a local model."""
    assumed = [
        ReplyPair(c.request.item_id, c.conversation_id, c.request.messages, f"1 {longest}", f"2 {longest}")
        for c in complaints
    ]
    return judge.estimate(assumed)


def _pair(item: HeldOut, old: Completion, new: Completion) -> ReplyPair:
    request = item.request
    finishes = (old.finish, new.finish)
    return ReplyPair(request.item_id, item.conversation_id, request.messages, old.text, new.text, finishes)


def true_outcomes(
    complaints: Sequence[HeldOut], old: Mapping[str, Completion], new: Mapping[str, Completion], truth: Truth
) -> tuple[list[RequestOutcome], dict[str, int]]:
    """By the sandbox's truth. A prompt without an answer counts as an empty answer."""

    def score(item: HeldOut, answers: Mapping[str, Completion]) -> float:
        answer = answers.get(item.request.item_id)
        finish = answer.finish if answer else "stop"
        return truth.scorer.score(item.request.messages, answer.text if answer else "", finish)

    return [RequestOutcome(c, score(c, old), score(c, new)) for c in complaints], {}


def target_result(
    by: str,
    outcomes: Sequence[RequestOutcome],
    skipped: Mapping[str, int],
    answers: tuple[Mapping[str, Completion], Mapping[str, Completion]],
    look: int,
    tests: int,
) -> GuardResult:
    """The gain: mean of NEW minus OLD, halved for a judge, so that it is the win rate minus 1/2.

    Raises ConfigError if requests of fewer than two users (of one user: chats) could be compared.
    """
    compared = [outcome.complaint for outcome in outcomes]
    units = units_of(compared)
    if len(set(units)) < 2:
        raise ConfigError(
            f"target {by}: the held-out requests that could be compared ({len(outcomes)}; left out: "
            f"{dict(skipped) or 'none'}) are of {units_in_words(compared)}, and it takes 2 users or chats at least: "
            "each counts once. Name a store with labelled conversations of more users or chats (--store), or leave "
            "the target out: --target none."
        )
    by_truth = by == "oracle"
    scale = 1.0 if by_truth else 0.5
    gains = [scale * (outcome.new - outcome.old) for outcome in outcomes]
    change = mean_change(gains, units, levels_of(look, tests), largest=scale)
    means = [group_mean([getattr(outcome, side) for outcome in outcomes], units) for side in ("old", "new")]
    worse = [outcome for outcome in outcomes if outcome.new < outcome.old]
    worse.sort(key=lambda outcome: stable_hash("lost", outcome.complaint.request.item_id))
    lost = tuple(
        LostItem(
            request=outcome.complaint.request.messages[-1].content,
            old=_text(answers[0], outcome),
            new=_text(answers[1], outcome),
            why="worse answer",
        )
        for outcome in worse[:3]
    )
    result = amount_result(by, "target", change, 0.0, (means[0], means[1]), look, tests, unit_name(compared))
    return with_skipped(result.filled(lost=lost), skipped, "the same command tries them again, or name another judge")


def _text(answers: Mapping[str, Completion], outcome: RequestOutcome) -> str:
    answer = answers.get(outcome.complaint.request.item_id)
    return answer.text if answer else ""
