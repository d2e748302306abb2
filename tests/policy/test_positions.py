"""Rotary embeddings that depend on the longest row of a batch: no row is long enough to change the others.

Longrope (Phi-3-128k, Phi-3.5, Phi-4-mini) has two sets of frequencies, one for rows up to its original length.
"""

from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from architectures import HEADS, SMALL, rope
from drift.config import PolicySettings, SamplingSettings
from drift.policy import checks
from drift.policy.checks import positions
from drift.policy.logps import reply_logps
from drift.policy.model import load_policy
from drift.policy.sampler import generate_replies
from drift.progress import listening
from drift.records import ChatMessage, Finish, PreferencePair
from drift.training.batch import StepCollator, per_token_logps
from drift.training.tokens import tokenise

ORIGINAL = 96
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
OF_PHI3 = {**SMALL, **rope("longrope", **FACTORS, factor=4.0), "original_max_position_embeddings": ORIGINAL}
OF_LLAMA = {**HEADS, **rope("longrope", **FACTORS, factor=4.0, original_max_position_embeddings=ORIGINAL)}
LONGROPE = {"phi3": ("Phi3Config", OF_PHI3), "llama": ("LlamaConfig", OF_LLAMA)}
SAMPLING = SamplingSettings(max_new_tokens=24, max_prompt_length=400, temperature=1.0, top_p=0.95)


def asked(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", text),)


SHORT, MIDDLE, LONG = asked("hi"), asked("m" * 30), asked("x" * 150)
TWO_TURNS = (*LONG, ChatMessage("assistant", "yes"), *asked("and then?"))


@pytest.fixture(params=LONGROPE)
def checkpoint(request, tmp_path, byte_tokenizer) -> Path:
    name, fields = LONGROPE[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, name)(
        **{**fields, "vocab_size": len(byte_tokenizer), "max_position_embeddings": 512}
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_the_original_length_is_the_longest_row_and_a_note_says_so(checkpoint):
    checks._report_unused.cache_clear()
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        policies = [load_policy(checkpoint, PolicySettings()) for _ in range(2)]
    assert [policy.context_length for policy in policies] == [ORIGINAL, ORIGINAL]
    assert len([note for note in notes if "first 96 of the model's 512 positions are used" in note]) == 1


def test_completions_do_not_depend_on_the_batch(checkpoint):
    policy = load_policy(checkpoint, PolicySettings())
    chats, keys = [SHORT, LONG, TWO_TURNS, MIDDLE], list("abcd")
    together = generate_replies(policy, chats, keys, SAMPLING)
    alone = [generate_replies(policy, [chat], [key], SAMPLING)[0] for chat, key in zip(chats, keys, strict=True)]
    assert together == alone
    assert [reply is None for reply in together] == [False, True, False, False]


def test_log_probs_do_not_depend_on_the_batch(checkpoint):
    policy = load_policy(checkpoint, PolicySettings())
    chats = [SHORT, MIDDLE, LONG, SHORT]
    texts = ("yes", "perhaps", "no", "y" * 150)
    replies: list[tuple[ChatMessage, Finish]] = [(ChatMessage("assistant", text), "stop") for text in texts]
    together = [each and each.total for each in reply_logps(policy, chats, replies, 400)]
    assert together[2:] == [None, None]
    for total, chat, reply in zip(together[:2], chats, replies, strict=False):
        (alone,) = reply_logps(policy, [chat], [reply], 400)
        assert alone is not None
        assert total == pytest.approx(alone.total, abs=1e-4)


@torch.no_grad()
def test_pairs_are_cut_at_the_original_length_and_counted(checkpoint):
    policy = load_policy(checkpoint, PolicySettings())
    rows = [(SHORT, "good"), (MIDDLE, "y" * 150), (LONG, "good")]
    rejected = (ChatMessage("assistant", "no idea"),)
    pairs = [
        PreferencePair(text, text, "c", 1, "drift", 1, "x", prompt, (ChatMessage("assistant", text),), rejected)
        for prompt, text in rows
    ]
    tokens, counts = tokenise(policy, pairs, max_prompt_length=400, max_length=400)
    assert (len(tokens), counts["dropped.prompt_too_long"], counts["cut_chosen"]) == (2, 1, 1)
    assert max(pair.length for pair in tokens) == ORIGINAL
    collate = StepCollator(0, 10_000, shared=False)
    together = [per_token_logps(policy.model, batch, torch.float32) for batch in collate(tokens)]
    longest_first = sorted(tokens, key=lambda pair: -pair.length)
    alone = [per_token_logps(policy.model, collate([pair])[0], torch.float32) for pair in longest_first]
    assert len(together) == 1
    assert torch.allclose(together[0], torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "fields", "used"),
    [
        ("Qwen2Config", SMALL, 256),
        ("LlamaConfig", {**HEADS, **rope("dynamic", factor=4.0)}, 256),
        ("LlamaConfig", {**HEADS, **rope("yarn", factor=4.0, original_max_position_embeddings=64)}, 256),
        ("Gemma3TextConfig", HEADS, 256),
        ("Llama4TextConfig", {**HEADS, "max_position_embeddings": 10_485_760}, 10_485_760),
        ("MambaConfig", {}, 1_000_000),
    ],
)
def test_other_models_use_all_their_positions(name, fields, used):
    assert positions(getattr(transformers, name)(**fields)) == used
