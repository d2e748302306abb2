"""The world's own verdict, where there is one: exact, or noisy as a reward model of middling quality would be."""

import random
from collections.abc import Sequence

from drift.evaluation.scorers.protocol import Reply
from drift.records import Scorer, stable_hash


class TruthScorer:
    """`noise`: the deviation of what is added to every score; the same reply always gets the same noise."""

    def __init__(self, oracle: Scorer, noise: float, seed: int) -> None:
        self.oracle = oracle
        self.noise = noise
        self.seed = seed

    def score_all(self, replies: Sequence[Reply]) -> list[float | None]:
        return [self.oracle.score(reply.prompt, reply.text) + self._error(reply) for reply in replies]

    def _error(self, reply: Reply) -> float:
        if self.noise == 0.0:
            return 0.0
        return random.Random(f"{self.seed} {stable_hash(reply.prompt, reply.text)}").gauss(0.0, self.noise)
