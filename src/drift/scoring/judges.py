"""Who decides between two replies: a model behind an endpoint, asked in both orders, or a reward model.

A PairJudge compares two replies (`drift eval pairwise`). A JudgeScorer turns the same judgements into scores: it
compares each reply with the disliked one (recipes, exploration).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drift.config import EndpointSettings, PolicySettings
from drift.endpoint import ANSWERS, ChatRequest, Endpoint, Reply
from drift.endpoint.cost import CostEstimate
from drift.endpoint.options import JudgePricing, endpoint_settings
from drift.errors import ConfigError
from drift.records import ChatMessage, Finish, Judgement, ReplyToScore, stable_hash
from drift.scoring.ask import (
    JUDGEMENTS,
    JudgeQuestion,
    ask_judge,
    estimate,
    judge_name,
    require_within,
)
from drift.scoring.comparison import INSTRUCTIONS, MAX_TOKENS, TOP_LOGPROBS, comparison, read_letter


@dataclass(frozen=True, slots=True)
class ReplyPair:
    """`first` is the opponent's reply, `second` the reply of the model under test."""

    item_id: str
    conversation_id: str
    prompt: tuple[ChatMessage, ...]
    first: str
    second: str
    finish: tuple[Finish, Finish] = ("stop", "stop")


@dataclass(frozen=True, slots=True)
class PairPreference:
    """In [0, 1], where 1 prefers the second; None: unscored, with the reason. `position_bias`: how much a reply gains
    by being shown second, in [-1, 1]."""

    value: float | None
    unscored_reason: str | None = None
    position_bias: float | None = None


class PairJudge(Protocol):
    name: str

    def estimate(self, pairs: Sequence[ReplyPair]) -> CostEstimate | None: ...

    def decide(self, pairs: Sequence[ReplyPair]) -> list[PairPreference]: ...


class EndpointJudge:
    """Judges every pair in both orders. Judgements are kept in `folder`; no question is asked twice."""

    def __init__(self, settings: EndpointSettings, folder: Path) -> None:
        self.settings = settings
        self.name = judge_name(settings, INSTRUCTIONS, MAX_TOKENS)
        self._answers, self._judgements = folder / ANSWERS, folder / JUDGEMENTS

    def estimate(self, pairs: Sequence[ReplyPair]) -> CostEstimate:
        return estimate(_questions(pairs, False), self.name, self.settings, self._judgements)

    def decide(self, pairs: Sequence[ReplyPair]) -> list[PairPreference]:
        """Raises ConfigError before the first call if the estimated cost is over the limit."""
        estimate = self.estimate(pairs)
        require_within(estimate, self.settings)
        self._judgements.parent.mkdir(parents=True, exist_ok=True)
        with Endpoint(self.settings, cache=self._answers) as endpoint:
            logprobs = estimate.answered < estimate.questions and gives_logprobs(endpoint)
            judged = ask_judge(_questions(pairs, logprobs), self.name, endpoint, self._judgements, read_letter)
        return [both_orders(judged[i], judged[i + 1]) for i in range(0, len(judged), 2)]


class RewardJudge:
    """The higher reward wins. A pair with a reply that is too long for the reward model is unscored."""

    def __init__(self, source: str, dtype: str, max_length: int, form: PolicySettings | None = None) -> None:
        from drift.scoring.reward_model import RewardModelScorer

        self.name = source
        self._scorer = RewardModelScorer(source, dtype, max_length, form=form)

    def estimate(self, pairs: Sequence[ReplyPair]) -> None:
        """None: a local model costs no money."""

    def decide(self, pairs: Sequence[ReplyPair]) -> list[PairPreference]:
        first = self._scorer.score_all([ReplyToScore(pair.prompt, pair.first, pair.finish[0]) for pair in pairs])
        second = self._scorer.score_all([ReplyToScore(pair.prompt, pair.second, pair.finish[1]) for pair in pairs])
        return [_by_reward(one, other) for one, other in zip(first, second, strict=True)]


def make_judge(
    judge: str | None, reward_model: str | None, folder: Path, dtype: str, pricing: JudgePricing, max_length: int = 8192
) -> PairJudge:
    """Raises ConfigError unless exactly one of the two is named."""
    if (judge is None) == (reward_model is None):
        raise ConfigError("give either --judge URL#MODEL or --reward-model FOLDER (one of the two).")
    if judge is not None:
        return EndpointJudge(endpoint_settings(judge, pricing), folder)
    return RewardJudge(str(reward_model), dtype, max_length)


def both_orders(first_order: Judgement, second_order: Judgement) -> PairPreference:
    """The mean of the two orders. The pair is unscored if one of them is."""
    for judgement in (first_order, second_order):
        if judgement.preference is None:
            return PairPreference(None, judgement.unscored_reason)
    shown_second, shown_first = first_order.preference or 0.0, second_order.preference or 0.0
    return PairPreference((shown_second + shown_first) / 2, None, shown_second - shown_first)


def gives_logprobs(endpoint: Endpoint) -> bool:
    """True if the server gives token probabilities. Some servers refuse the option, some ignore it."""
    hello = ChatRequest((ChatMessage("user", "Answer with the letter A."),), MAX_TOKENS, top_logprobs=TOP_LOGPROBS)
    outcome = endpoint.try_once(hello)
    return isinstance(outcome, Reply) and any(outcome.choices[0].tokens)


def _questions(pairs: Sequence[ReplyPair], logprobs: bool) -> list[JudgeQuestion]:
    return [
        question
        for pair in pairs
        for question in comparison(pair.item_id, pair.prompt, (pair.first, pair.second), logprobs, pair.conversation_id)
    ]


def _by_reward(first: float | None, second: float | None) -> PairPreference:
    if first is None or second is None:
        return PairPreference(None, "no reward")
    return PairPreference(1.0 if second > first else 0.0 if second < first else 0.5)


def by_item(pairs: Sequence[ReplyPair], preferences: Sequence[PairPreference]) -> Mapping[str, PairPreference]:
    return {pair.item_id: preference for pair, preference in zip(pairs, preferences, strict=True)}


EVEN_PREFERENCE = 0.5


class JudgeScorer:
    """Preference over the disliked reply, in [0, 1]; that reply itself scores 0.5. None without an answer or a disliked
    reply.

    `folder` keeps the judgements, so that none is paid for twice.
    """

    def __init__(self, settings: EndpointSettings, folder: Path) -> None:
        self._judge = EndpointJudge(settings, folder)

    def estimate(self, replies: Sequence[ReplyToScore]) -> CostEstimate:
        """What scoring takes beyond the judgements on disk."""
        return self._judge.estimate(list(_pairs(replies).values()))

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        pairs = _pairs(replies)
        decided = self._judge.decide(list(pairs.values())) if pairs else []
        values = dict(zip(pairs, (preference.value for preference in decided), strict=True))
        return [EVEN_PREFERENCE if reply.text == reply.against else values.get(_id(reply)) for reply in replies]


def _pairs(replies: Sequence[ReplyToScore]) -> dict[str, ReplyPair]:
    """By id: equal replies to one prompt are judged once, and replies equal to the disliked one not at all."""
    return {_id(reply): _pair(reply, reply.against) for reply in replies if reply.against not in (None, reply.text)}


def _id(reply: ReplyToScore) -> str:
    return stable_hash(reply.prompt, reply.against, reply.text)


def _pair(reply: ReplyToScore, against: str | None) -> ReplyPair:
    return ReplyPair(_id(reply), _id(reply), reply.prompt, against or "", reply.text, ("stop", reply.finish))
