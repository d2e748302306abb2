"""Hindsight: a fresh reply is better the less it invites the complaint that was made.

The score is -log p(complaint | request, reply) per token under the policy. By Bayes, log p(complaint | x, y) for two
replies y differs as the log-odds that this complaint came after the one or the other (the follow-up signal of arXiv
2603.12273). It is a signal of a model about itself: how well it tells right from wrong has to be measured.
"""

from collections.abc import Sequence

from drift.policy.chat import encode_user_turn
from drift.policy.logps import logps_of_ids
from drift.policy.model import Policy
from drift.records import ChatMessage, Reason, ReplyToScore


class HindsightScorer:
    """None for a reply whose user wrote no complaint, and for a chat of more than `max_length` tokens."""

    def __init__(self, policy: Policy, max_length: int) -> None:
        self.policy = policy
        self.max_length = max_length

    def score_all(self, replies: Sequence[ReplyToScore]) -> list[float | None]:
        rows: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for place, reply in enumerate(replies):
            if not reply.complaint:
                continue
            chat = (*reply.prompt, ChatMessage("assistant", reply.text))
            ids = encode_user_turn(self.policy.chat, chat, reply.complaint, reply.tools)
            if not isinstance(ids, Reason) and ids[1] and sum(map(len, ids)) <= self.max_length:
                rows[place] = ids
        found = logps_of_ids(self.policy, list(rows.values()))
        scores = dict(zip(rows, (-logps.per_token for logps in found), strict=True))
        return [scores.get(place) for place in range(len(replies))]
