"""Weights exactly between two numbers of bfloat16: an update that is nothing moves nothing."""

import pytest
import torch

from drift.config import PolicySettings, TrainingSettings
from drift.policy.model import load_policy, save_policy
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.training import train as training
from drift.training.reference import ReferenceSettings, measure_reference

BFLOAT = PolicySettings(dtype="bfloat16")
NOTHING = TrainingSettings(learning_rate=1e-7, optimizer="adamw_torch", batch_size=4, warmup_ratio=0.0)


def between(weight: torch.Tensor) -> torch.Tensor:
    """The same numbers, moved to the middle between two of bfloat16."""
    return ((weight.view(torch.int32) & ~0xFFFF) | 0x8000).view(torch.float32)


@pytest.fixture
def start(tiny_policy, tmp_path):
    policy = load_policy(tiny_policy, PolicySettings())
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.copy_(between(weight))
    save_policy(policy, tmp_path / "between")
    return tmp_path / "between"


def share_moved(start, folder) -> float:
    """The share of the weights that the forward pass in bfloat16 reads as other numbers after the training; those about
    as small as the updates, zeros for one, are left out."""
    rows = []
    for n in range(16):
        asked, good, bad = f"question {n}", f"{n} is a good answer", "no idea at all"
        chosen, rejected = (ChatMessage("assistant", good),), (ChatMessage("assistant", bad),)
        prompt = (ChatMessage("user", asked),)
        rows.append(PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", prompt, chosen, rejected))
    write_jsonl(folder / "pairs.jsonl", rows)
    settings = ReferenceSettings.of(NOTHING, BFLOAT)
    measure_reference(folder / "reference", (start,), folder / "pairs.jsonl", settings)
    training.train(folder / "policy", start, folder / "reference", folder / "pairs.jsonl", NOTHING, BFLOAT, 1)
    before, after = (load_policy(source, BFLOAT).model.state_dict() for source in (start, folder / "policy"))
    weights = torch.cat([tensor.flatten() for tensor in before.values()])
    trained = torch.cat([after[name].flatten() for name in before])
    return float((weights != trained)[weights.abs() > 1e-3].float().mean())


def test_an_update_of_nothing_moves_nothing(start, tmp_path, monkeypatch):
    assert share_moved(start, tmp_path) < 0.001
    monkeypatch.setattr(training, "_round_ties", lambda model: None)
    assert share_moved(start, tmp_path) > 0.2  # as they are, about every second one takes a whole step


def test_only_ties_are_rounded():
    """1.00390625 is half-way between 1 and 1.0078125, and goes to the even 1; its neighbours stay as they are."""
    model = torch.nn.Linear(4, 1, bias=False)
    numbers = torch.tensor([[1.00390625, 1.0039063692092896, 1.5, 0.1]])
    with torch.no_grad():
        model.weight.copy_(numbers)
    training._round_ties(model)
    assert model.weight.tolist() == [[1.0, *numbers[0, 1:].tolist()]]
