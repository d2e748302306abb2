"""Hindsight: a fresh reply is the better, the less likely it makes the user's complaint about the logged reply.

The score is -log p(complaint | request, reply), divided by the complaint's tokens, in nats, under the policy. By Bayes'
rule, the difference of log p(complaint | request, reply) between two replies is the log-odds of which of them the
complaint followed (the follow-up signal of arXiv 2603.12273), if both were as likely before. The policy judges its own
replies here: how well it tells right from wrong has to be measured.
"""

from collections.abc import Sequence

from drift.policy.chat import encode_user_turn
from drift.policy.logps import logps_of_ids
from drift.policy.spread import AnyPolicy
from drift.records import Reason, ReplyToScore


class HindsightScorer:
    """Scores are None for a reply whose user wrote no complaint, and where the template does not show the chat or the
    complaint ends behind `max_length` tokens."""

    def __init__(self, policy: AnyPolicy, max_length: int) -> None:
        self.policy = policy
        self.max_length = min(max_length, policy.facts.context_length)

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        rows: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for place, reply in enumerate(replies):
            if not reply.complaint:
                continue
            chat = (*reply.prompt, reply.message)
            ids = encode_user_turn(self.policy.chat, chat, reply.complaint, reply.tools)
            if not isinstance(ids, Reason) and ids[1] and sum(map(len, ids)) <= self.max_length:
                rows[place] = ids
        complaint_logps = logps_of_ids(self.policy, list(rows.values()))
        scores = dict(zip(rows, (-logps.per_token for logps in complaint_logps), strict=True))
        return [scores.get(place) for place in range(len(replies))]
