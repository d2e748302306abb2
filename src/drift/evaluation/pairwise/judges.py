"""Who decides between two replies: a model behind an endpoint, asked in both orders, or a reward model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drift.config import EndpointSettings
from drift.endpoint import ANSWERS, ChatRequest, Endpoint, Reply
from drift.errors import ConfigError
from drift.evaluation.judging.ask import (
    JUDGEMENTS,
    Estimate,
    JudgeQuestion,
    ask_judge,
    estimate,
    judge_name,
    require_within,
)
from drift.evaluation.judging.comparison import CANDIDATES, INSTRUCTIONS, MAX_TOKENS, comparison, read_letter
from drift.evaluation.judging.terms import Terms
from drift.records import ChatMessage, Finish, Judgement


@dataclass(frozen=True, slots=True)
class Pair:
    """`first` is the other's reply, `second` that of the model under test."""

    item_id: str
    conversation_id: str
    prompt: tuple[ChatMessage, ...]
    first: str
    second: str
    finish: tuple[Finish, Finish] = ("stop", "stop")


@dataclass(frozen=True, slots=True)
class Preference:
    """In [0, 1], 1 is for the second; None: unscored, with the reason. `position_bias`: by how much more a reply is
    preferred for being shown second, in [-1, 1]."""

    value: float | None
    unscored_reason: str | None = None
    position_bias: float | None = None


class PairJudge(Protocol):
    name: str

    def estimate(self, pairs: Sequence[Pair]) -> Estimate | None: ...

    def decide(self, pairs: Sequence[Pair]) -> list[Preference]: ...


class EndpointJudge:
    """Every pair in both orders; judgements are kept in `folder` and never asked twice."""

    def __init__(self, settings: EndpointSettings, folder: Path) -> None:
        self.settings = settings
        self.name = judge_name(settings, INSTRUCTIONS, MAX_TOKENS)
        self._answers, self._judgements = folder / ANSWERS, folder / JUDGEMENTS

    def estimate(self, pairs: Sequence[Pair]) -> Estimate:
        return estimate(_questions(pairs, False), self.name, self.settings, self._judgements)

    def decide(self, pairs: Sequence[Pair]) -> list[Preference]:
        """Raises ConfigError before the first call if it would cost too much."""
        found = self.estimate(pairs)
        require_within(found, self.settings)
        self._judgements.parent.mkdir(parents=True, exist_ok=True)
        with Endpoint(self.settings, cache=self._answers) as endpoint:
            logprobs = found.answered < found.questions and tells_logprobs(endpoint)
            judged = ask_judge(_questions(pairs, logprobs), self.name, endpoint, self._judgements, read_letter)
        return [both_orders(judged[i], judged[i + 1]) for i in range(0, len(judged), 2)]


class RewardJudge:
    """The higher reward wins; a reply that the reward model cannot read leaves its pair unscored."""

    def __init__(self, source: str, dtype: str, max_length: int) -> None:
        from drift.evaluation.scorers.reward_model import RewardModelScorer

        self.name = source
        self._scorer = RewardModelScorer(source, dtype, max_length)

    def estimate(self, pairs: Sequence[Pair]) -> None:
        """It costs time alone."""

    def decide(self, pairs: Sequence[Pair]) -> list[Preference]:
        from drift.evaluation.scorers.protocol import Reply as Scored

        first = self._scorer.score_all([Scored(pair.prompt, pair.first, pair.finish[0]) for pair in pairs])
        second = self._scorer.score_all([Scored(pair.prompt, pair.second, pair.finish[1]) for pair in pairs])
        return [_by_reward(one, other) for one, other in zip(first, second, strict=True)]


def make_judge(
    judge: str | None, reward_model: str | None, folder: Path, dtype: str, terms: Terms, max_length: int = 8192
) -> PairJudge:
    """Raises ConfigError unless exactly one of the two is named."""
    if (judge is None) == (reward_model is None):
        raise ConfigError("name who decides: --judge URL#MODEL, or --reward-model FOLDER (one of the two).")
    if judge is not None:
        return EndpointJudge(terms.judge(judge), folder)
    return RewardJudge(str(reward_model), dtype, max_length)


def both_orders(one: Judgement, other: Judgement) -> Preference:
    """The mean of the two orders; if one of them is unscored, so is the pair."""
    for judgement in (one, other):
        if judgement.preference is None:
            return Preference(None, judgement.unscored_reason)
    shown_second, shown_first = one.preference or 0.0, other.preference or 0.0
    return Preference((shown_second + shown_first) / 2, None, shown_second - shown_first)


def tells_logprobs(endpoint: Endpoint) -> bool:
    """Does the server give the probabilities of the first token? Some refuse to be asked, some ignore it."""
    hello = ChatRequest((ChatMessage("user", "Answer with the letter A."),), MAX_TOKENS, top_logprobs=CANDIDATES)
    outcome = endpoint.try_once(hello)
    return isinstance(outcome, Reply) and any(outcome.choices[0].tokens)


def _questions(pairs: Sequence[Pair], logprobs: bool) -> list[JudgeQuestion]:
    return [
        question
        for pair in pairs
        for question in comparison(pair.item_id, pair.prompt, (pair.first, pair.second), logprobs, pair.conversation_id)
    ]


def _by_reward(first: float | None, second: float | None) -> Preference:
    if first is None or second is None:
        return Preference(None, "no reward")
    return Preference(1.0 if second > first else 0.0 if second < first else 0.5)


def by_item(pairs: Sequence[Pair], preferences: Sequence[Preference]) -> Mapping[str, Preference]:
    return {pair.item_id: preference for pair, preference in zip(pairs, preferences, strict=True)}
