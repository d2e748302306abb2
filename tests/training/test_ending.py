"""Training does not teach a policy to ramble: the end token of an unfinished reply's pair stands on neither side."""

from dataclasses import replace

import pytest
import torch

from drift.config import PolicySettings, TrainingSettings
from drift.policy.chat import ChatFormat, encode_completion, encode_prompt
from drift.policy.model import load_policy
from drift.records import ChatMessage, PreferencePair, Reason, write_jsonl
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.train import train

WORDS = ("apple", "cloud", "eagle", "garden", "moon", "stone", "river", "table")
SETTINGS = TrainingSettings(
    loss="sigmoid", learning_rate=2e-4, optimizer="adamw_torch", batch_size=8, epochs=4, warmup_ratio=0.0
)


def request(n: int) -> tuple[tuple[ChatMessage, ...], str, str]:
    """A prompt, the right answer and a wrong one."""
    words = [WORDS[(n * k + k) % len(WORDS)] for k in (1, 2, 3, 5)]
    prompt = (ChatMessage("user", f"Sort these words from a to z: {' '.join(words)}"),)
    return prompt, " ".join(sorted(words)), " ".join(sorted(words, reverse=True))


def half_unfinished(n: int) -> PreferencePair:
    """Every second fresh reply was cut at a limit after its first two words."""
    prompt, right, wrong = request(n)
    text, finish = (right, "stop") if n % 2 else (" ".join(right.split()[:2]), "length")
    sides = [(ChatMessage("assistant", reply),) for reply in (text, wrong)]
    pair = PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", prompt, sides[0], sides[1])
    return replace(pair, finish=finish)


@torch.inference_mode()
def end_probability(folder) -> float:
    """The mean probability of the end token after complete replies like the disliked ones, to requests not trained on:
    also a wrong reply has to end."""
    policy = load_policy(folder, PolicySettings())
    found = []
    for n in range(100, 120):
        prompt, _, reply = request(n)
        ids = encode_prompt(policy.chat, prompt, 1000).ids + encode_completion(
            policy.chat, prompt, ChatMessage("assistant", reply), "stop"
        )
        logits = policy.model(torch.tensor([ids[:-1]])).logits[0, -1]
        found.append(float(logits.softmax(-1)[ids[-1]]))
    return sum(found) / len(found)


def unmatched(pair: PreferencePair, chat: ChatFormat) -> PreferencePair:
    """The pair as if its chosen reply had ended: an unfinished one has no end token, the disliked one has."""
    ids = encode_completion(chat, pair.prompt, pair.chosen[0], pair.finish)
    assert not isinstance(ids, Reason)
    return replace(pair, finish="stop", chosen_token_ids=ids)


@pytest.mark.parametrize("matched", [True, False])
def test_half_of_the_pairs_unfinished_leave_the_end_alone(tmp_path, matched):
    pairs = [half_unfinished(n) for n in range(64)]
    if not matched:
        chat = load_policy("embedded", PolicySettings()).chat
        pairs = [unmatched(pair, chat) for pair in pairs]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    reference = tmp_path / "reference.safetensors"
    settings = ReferenceSettings.of(SETTINGS, PolicySettings())
    measure_reference(reference, ("embedded",), tmp_path / "pairs.jsonl", settings)
    train(tmp_path / "policy", "embedded", reference, tmp_path / "pairs.jsonl", SETTINGS, PolicySettings(), 1)
    before, after = end_probability("embedded"), end_probability(tmp_path / "policy")
    if matched:
        assert after > before - 0.05
    else:
        assert after < before - 0.05
