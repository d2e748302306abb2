"""A judge behind an endpoint, asked in both orders: how often it prefers a reply to the one that the user disliked."""

from collections.abc import Sequence
from pathlib import Path

from drift.config import EndpointSettings
from drift.evaluation.judging.ask import Estimate
from drift.evaluation.pairwise.judges import EndpointJudge, Pair
from drift.evaluation.scorers.protocol import Reply
from drift.records import stable_hash

EVEN = 0.5


class JudgeScorer:
    """In [0, 1]; the disliked reply itself is an even 0.5. None where the judge gave no answer, or nothing to compare.

    `folder` keeps the judgements, so that none is paid for twice.
    """

    def __init__(self, settings: EndpointSettings, folder: Path) -> None:
        self._judge = EndpointJudge(settings, folder)

    def estimate(self, replies: Sequence[Reply]) -> Estimate:
        """What scoring them would take beyond what is known."""
        return self._judge.estimate(list(_pairs(replies).values()))

    def score_all(self, replies: Sequence[Reply]) -> list[float | None]:
        pairs = _pairs(replies)
        decided = self._judge.decide(list(pairs.values())) if pairs else []
        values = dict(zip(pairs, (preference.value for preference in decided), strict=True))
        return [EVEN if reply.text == reply.against else values.get(_id(reply)) for reply in replies]


def _pairs(replies: Sequence[Reply]) -> dict[str, Pair]:
    """By id: equal replies to one prompt are asked about once, and those equal to the disliked one not at all."""
    return {_id(reply): _pair(reply, reply.against) for reply in replies if reply.against not in (None, reply.text)}


def _id(reply: Reply) -> str:
    return stable_hash(reply.prompt, reply.against, reply.text)


def _pair(reply: Reply, against: str | None) -> Pair:
    return Pair(_id(reply), _id(reply), reply.prompt, against or "", reply.text, ("stop", reply.finish))
