"""Scorers of single replies, higher is better: the policy's own likelihood, and the sandbox's truth.

The other two need more: a reward model (reward_model.py) and a judge (judges.py).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drift.policy.logps import reply_logps
from drift.policy.model import Policy
from drift.records import ChatMessage, Finish, Scorer, stable_hash


@dataclass(frozen=True, slots=True)
class ReplyToScore:
    """`finish`: a truncated reply has no end token to score. `against`: the disliked reply."""

    prompt: tuple[ChatMessage, ...]
    text: str
    finish: Finish = "stop"
    against: str | None = None


class BatchScorer(Protocol):
    """Scores replies in their order, higher is better; None for a reply that it cannot score."""

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]: ...


class LikelihoodScorer:
    """The policy's mean log-prob per token, in nats, given the request alone.

    None for an empty reply, and for one that with its prompt is longer than `max_length` tokens.
    """

    def __init__(self, policy: Policy, max_length: int) -> None:
        self.policy = policy
        self.max_length = max_length

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        prompts = [reply.prompt for reply in replies]
        scores = reply_logps(self.policy, prompts, [(reply.text, reply.finish) for reply in replies], self.max_length)
        return [None if score is None else score.per_token for score in scores]


class TruthScorer:
    """The sandbox's truth. `noise`: standard deviation of the error added to every score; it is fixed per reply."""

    def __init__(self, oracle: Scorer, noise: float, seed: int) -> None:
        self.oracle = oracle
        self.noise = noise
        self.seed = seed

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        return [self.oracle.score(reply.prompt, reply.text) + self._error(reply) for reply in replies]

    def _error(self, reply: ReplyToScore) -> float:
        if self.noise == 0.0:
            return 0.0
        return random.Random(f"{self.seed} {stable_hash(reply.prompt, reply.text)}").gauss(0.0, self.noise)
