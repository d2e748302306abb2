"""Self-scoring: the policy's own mean log-prob per token, given the request alone."""

from collections.abc import Sequence

from drift.evaluation.scorers.protocol import Reply
from drift.policy.logps import reply_logps
from drift.policy.model import Policy


class LikelihoodScorer:
    """Nats per token. None for an empty reply, and for one that is longer than `max_length` tokens with its prompt."""

    def __init__(self, policy: Policy, max_length: int) -> None:
        self.policy = policy
        self.max_length = max_length

    def score_all(self, replies: Sequence[Reply]) -> list[float | None]:
        prompts = [reply.prompt for reply in replies]
        scores = reply_logps(self.policy, prompts, [(reply.text, reply.finish) for reply in replies], self.max_length)
        return [None if score is None else score.per_token for score in scores]
