"""Scorers of single replies, higher is better. `SCORERS` says how each is made and what it needs.

The policy's own likelihood and the sandbox's truth stand here; a reward model and a judge have files of their own.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from drift.config import PolicySettings, ScorerSettings
from drift.endpoint import Endpoint, require_model
from drift.errors import ConfigError, DataError
from drift.policy.logps import reply_logps
from drift.policy.spread import AnyPolicy, engine_for_models, policy_for_pieces
from drift.records import BatchScorer, ChatMessage, Finish, ReplyToScore, Scorer, ScorerName, Truth, stable_hash
from drift.scoring.classifier import check_architecture
from drift.scoring.feedback_reward import JudgedTurnSettings, check_judged
from drift.scoring.hindsight import HindsightScorer
from drift.scoring.judges import JudgeScorer
from drift.scoring.reward_model import RewardModelScorer, check_reward_model
from drift.store import Store
from drift.turns import complaint_of, exclusion_reason, is_disliked


@dataclass(frozen=True, slots=True)
class ScorerInputs:
    """What a scorer can be made of. `policy`: the one that made the replies. `truth`: only the sandbox has it.

    `max_length`: tokens of prompt and reply together. `folder` keeps a judge's answers.
    `reward`: the folder of the feedback reward. `until_scored`: ends with the stage, for what a scorer has to close.
    """

    settings: ScorerSettings
    policy: Path | str
    policy_settings: PolicySettings
    max_length: int
    truth: Truth | None
    seed: int
    folder: Path
    until_scored: ExitStack
    reward: Path | None = None

    def opened_policy(self) -> AnyPolicy:
        return self.until_scored.enter_context(policy_for_pieces(self.policy, self.policy_settings))

    def opened_reward(self, source: str, form: PolicySettings | None) -> RewardModelScorer:
        engine = self.until_scored.enter_context(engine_for_models(self.policy_settings))
        return RewardModelScorer(source, self.policy_settings.dtype, self.max_length, engine, form)


class LikelihoodScorer:
    """The policy's mean log-prob per token, in nats, given the request alone.

    None for an empty reply, and for one that with its prompt is longer than `max_length` tokens.
    """

    def __init__(self, policy: AnyPolicy, max_length: int) -> None:
        self.policy = policy
        self.max_length = max_length

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        prompts = [reply.prompt for reply in replies]
        given: list[tuple[ChatMessage, Finish]] = [(reply.message, reply.finish) for reply in replies]
        scores = reply_logps(self.policy, prompts, given, self.max_length, [reply.tools for reply in replies])
        return [None if score is None else score.per_token for score in scores]


class TruthScorer:
    """The sandbox's truth. `noise`: standard deviation of the error added to every score; it is fixed per reply."""

    def __init__(self, oracle: Scorer, noise: float, seed: int) -> None:
        self.oracle = oracle
        self.noise = noise
        self.seed = seed

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        return [self.oracle.score(reply.prompt, reply.text, reply.finish) + self._error(reply) for reply in replies]

    def _error(self, reply: ReplyToScore) -> float:
        if self.noise == 0.0:
            return 0.0
        return random.Random(f"{self.seed} {stable_hash(reply.prompt, reply.text)}").gauss(0.0, self.noise)


def _self(inputs: ScorerInputs) -> BatchScorer:
    return LikelihoodScorer(inputs.opened_policy(), inputs.max_length)


def _hindsight(inputs: ScorerInputs) -> BatchScorer:
    return HindsightScorer(inputs.opened_policy(), inputs.max_length)


def _feedback(inputs: ScorerInputs) -> BatchScorer:
    if inputs.reward is None:
        raise ConfigError("recipe.scorer.name: feedback learns from the run's store; here there is none.")
    return inputs.opened_reward(str(inputs.reward), inputs.policy_settings)


def _reward_model(inputs: ScorerInputs) -> BatchScorer:
    return inputs.opened_reward(str(inputs.settings.model), None)


def _judge(inputs: ScorerInputs) -> BatchScorer:
    if inputs.settings.endpoint is None:
        raise ConfigError("recipe.scorer.name: the judge needs a server: set recipe.scorer.endpoint.")
    return JudgeScorer(inputs.settings.endpoint, inputs.folder)


def _oracle(inputs: ScorerInputs) -> BatchScorer:
    name = inputs.settings.name
    truth = known_truth(name, inputs.truth)
    return TruthScorer(truth.scorer, inputs.settings.noise if name == "noisy_oracle" else 0.0, inputs.seed)


def known_truth(scorer: ScorerName, truth: Truth | None) -> Truth:
    """The truth that an oracle scores with. Raises ConfigError outside of the sandbox."""
    if truth is None:
        allowed = ", ".join(name for name, kind in SCORERS.items() if not kind.needs_truth)
        raise ConfigError(
            f"recipe.scorer.name: {scorer!r} needs the truth, which only the sandbox has; allowed here: {allowed}."
        )
    return truth


def _check_judged(settings: ScorerSettings, policy: str, store: Store, which: JudgedTurnSettings) -> None:
    check_architecture(settings.model or policy)
    check_judged(store, which)


def _check_complaints(settings: ScorerSettings, policy: str, store: Store, which: JudgedTurnSettings) -> None:
    """Raises DataError if no user wrote what they disliked: every reply would be unscored."""
    disliked, include = 0, frozenset(which.include)
    for conversation, labels in store.labelled("train"):
        for label in labels:
            if not is_disliked(label, which.min_p_dsat) or exclusion_reason(conversation, label, include):
                continue
            complaint = complaint_of(conversation, label)
            if complaint and complaint.content:
                return
            disliked += 1
    if disliked:
        others = ", ".join(name for name, kind in SCORERS.items() if name != settings.name and not kind.needs_truth)
        raise DataError(
            f"{store.path}: recipe.scorer.name: hindsight reads what users wrote about the replies that they disliked, "
            f"and none of the {disliked} disliked replies of the training split has a written complaint. Set "
            f"recipe.scorer.name to another scorer: {others}."
        )


def _check_model(settings: ScorerSettings, *_: object) -> None:
    check_reward_model(str(settings.model))


def _check_server(settings: ScorerSettings, *_: object) -> None:
    """A judge is asked one short question, which counts as spending."""
    if settings.endpoint is not None:
        with Endpoint(settings.endpoint) as endpoint:
            require_model(endpoint)


def _nothing_to_check(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class ScorerKind:
    """`make`: the scorer, of what a run knows. `check`: raises DriftError, before hours of work that would end with it,
    if the scorer lacks what it needs. `needs_truth`: works in the sandbox alone. `reads`: a model of this machine reads
    each reply once. If its margin is the log-odds of a win, SCORERS_OF_LOG_ODDS (config/settings.py) names it."""

    make: Callable[[ScorerInputs], BatchScorer]
    check: Callable[[ScorerSettings, str, Store, JudgedTurnSettings], None] = _nothing_to_check
    needs_truth: bool = False
    reads: bool = False


SCORERS: dict[ScorerName, ScorerKind] = {
    "self": ScorerKind(_self, reads=True),
    "hindsight": ScorerKind(_hindsight, _check_complaints, reads=True),
    "feedback": ScorerKind(_feedback, _check_judged, reads=True),
    "reward_model": ScorerKind(_reward_model, _check_model, reads=True),
    "judge": ScorerKind(_judge, _check_server),
    "oracle": ScorerKind(_oracle, needs_truth=True),
    "noisy_oracle": ScorerKind(_oracle, needs_truth=True),
}
"""Every scorer by its name in the config. To add one: a class and its entry here, and its name in records.ScorerName.

`make` raises ConfigError where a scorer cannot work: an oracle outside of the sandbox, a judge without a server.
"""


def check_scorer(
    settings: ScorerSettings, policy: str, store: Store, which: JudgedTurnSettings, truth: Truth | None
) -> None:
    """Raises DriftError if the scorer lacks what it needs. `policy`: the name of the model that training starts from;
    `which`: the judged replies of the store that a feedback reward learns from."""
    kind = SCORERS[settings.name]
    if kind.needs_truth:
        known_truth(settings.name, truth)
    kind.check(settings, policy, store, which)
