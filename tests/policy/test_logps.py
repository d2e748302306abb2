"""Log-probabilities of given replies, against the model asked plainly."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from drift.config import PolicySettings, SamplingSettings
from drift.errors import DriftError
from drift.policy import logps
from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.decode import decode_batch
from drift.policy.logps import logps_of_ids, reply_logps
from drift.policy.model import load_policy
from drift.records import ChatMessage, Reason


def test_replies_are_scored_in_order_with_a_gap_where_one_does_not_fit(tiny_policy):
    policy = load_policy(tiny_policy, PolicySettings())
    chats = [[ChatMessage("user", text)] for text in ("hi", "x" * 400, "a longer question")]
    replies = [ChatMessage("assistant", text) for text in ("yes", "no", "perhaps so")]
    found = reply_logps(policy, chats, list(zip(replies, ("stop", "stop", "length"), strict=True)), 200)
    assert found[1] is None
    for row, finish in ((0, "stop"), (2, "length")):
        prompt = encode_prompt(policy.chat, chats[row], 200)
        assert not isinstance(prompt, Reason)
        completion = encode_completion(policy.chat, chats[row], replies[row], finish)
        assert not isinstance(completion, Reason)
        ids = torch.tensor([[*prompt.ids, *completion]])
        logps = policy.model(ids).logits[0].log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])
        expected = logps[-len(completion) :].sum().item()
        scored = found[row]
        assert scored is not None
        assert scored.total == pytest.approx(expected, abs=1e-4)
        assert (scored.tokens, scored.per_token) == (len(completion), scored.total / len(completion))


def test_no_reply_is_scored_beyond_the_models_positions(tiny_policy):
    """`evaluation.max_length` is 2,048, and some models have 1,024 positions or fewer."""
    policy = load_policy(tiny_policy, PolicySettings())
    beyond = policy.context_length + 1
    chats = [[ChatMessage("user", "hi")], [ChatMessage("user", "x" * beyond)]]
    found = reply_logps(policy, chats, [(ChatMessage("assistant", "yes"), "stop")] * 2, 4 * beyond)
    assert [each is None for each in found] == [False, True]


def test_logits_of_a_large_vocabulary_are_computed_in_parts(tiny_policy, monkeypatch):
    policy = load_policy(tiny_policy, PolicySettings())
    rows = [(tuple(range(5, 5 + length)), (7, 8, 9)) for length in (3, 4, 9, 2, 5)]
    whole = [found.total for found in logps_of_ids(policy, rows)]
    passes: list[int] = []
    policy.model.register_forward_hook(
        lambda _model, _inputs, output: passes.append(output.logits.shape[0]), always_call=True
    )
    longest = 9 + 3
    monkeypatch.setattr(logps, "LOGIT_BYTES", 2 * longest * 4 * policy.model.config.vocab_size)  # of two rows
    assert [found.total for found in logps_of_ids(policy, rows)] == pytest.approx(whole, abs=1e-5)
    assert passes == [2, 2, 1]


@pytest.mark.parametrize("trained", [True, False])
def test_the_head_is_multiplied_once_whether_it_is_trained_or_frozen(tiny_policy, trained):
    """A frozen one, as under an adapter, was multiplied with each row by itself, and in bfloat16 copied for each."""
    policy = load_policy(tiny_policy, PolicySettings(dtype="bfloat16"))
    policy.model.requires_grad_(trained)
    prompts, sampling = [(5, 6, 7, 8), (5, 7)], SamplingSettings(max_new_tokens=2)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        logps_of_ids(policy, [(prompt, (7, 8, 9)) for prompt in prompts])
        decode_batch(policy, prompts, ["a", "b"], sampling)
    products = [each.input_shapes for each in profiled.events() or () if each.name in ("aten::mm", "aten::bmm")]
    of_the_head = [shapes for shapes in products if shapes[1][-1] == policy.model.config.vocab_size]
    assert of_the_head
    assert all(len(shapes[1]) == 2 for shapes in of_the_head)


def no_room(**_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_names_what_to_set(tiny_policy, monkeypatch):
    policy = load_policy(tiny_policy, PolicySettings())
    monkeypatch.setattr(policy.model, "forward", no_room)
    asked = (ChatMessage("user", "hi"),)
    with pytest.raises(
        DriftError, match=r"^log-probs: out of memory in a batch of 1 replies and \d+ tokens; give this"
    ):
        reply_logps(policy, [asked], [(ChatMessage("assistant", "hello"), "stop")], 512)
    sampling = SamplingSettings(max_new_tokens=6)
    with pytest.raises(
        DriftError,
        match=r"^sampling: out of memory in a batch of 2 prompts of up to 3 tokens; set .*batch_tokens below 18,",
    ):
        decode_batch(policy, [(1, 2, 3), (1, 2)], ["a", "b"], sampling)
