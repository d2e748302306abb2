"""Log-probabilities of given replies, against the model asked plainly."""

import pytest
import torch

from drift.config import PolicySettings
from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.logps import reply_logps
from drift.policy.model import load_policy
from drift.records import ChatMessage


def test_replies_are_scored_in_order_with_a_gap_where_one_does_not_fit(tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings())
    chats = [[ChatMessage("user", text)] for text in ("hi", "x" * 400, "a longer question")]
    found = reply_logps(policy, chats, [("yes", "stop"), ("no", "stop"), ("perhaps so", "length")], 200)
    assert found[1] is None
    for row, reply, finish in ((0, "yes", "stop"), (2, "perhaps so", "length")):
        prompt = encode_prompt(policy.tokenizer, chats[row], 200)
        assert prompt is not None
        completion = encode_completion(policy.tokenizer, reply, finish)
        ids = torch.tensor([[*prompt.ids, *completion]])
        logps = policy.model(ids).logits[0].log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])
        expected = logps[-len(completion) :].sum().item()
        scored = found[row]
        assert scored is not None
        assert scored.total == pytest.approx(expected, abs=1e-4)
        assert (scored.tokens, scored.per_token) == (len(completion), scored.total / len(completion))
