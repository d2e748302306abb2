"""Padded rows against matrices written by hand, and the chunked log-softmax against the textbook one."""

import math

import pytest
import torch

from drift.config import PolicySettings
from drift.policy import padded
from drift.policy.model import load_policy
from drift.policy.padded import PaddedRows, padded_logps, token_logps

SEQUENCES = [((11, 12, 13), (21, 22)), ((14,), (32, 33))]


def test_rows_by_hand():
    rows = PaddedRows.of(SEQUENCES, pad_token_id=0)
    assert rows.input_ids.tolist() == [[11, 12, 13, 21, 22], [14, 32, 33, 0, 0]]
    assert rows.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert rows.completion_mask.int().tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]]
    assert rows.position_ids[0].tolist() == [0, 1, 2, 3, 4]
    assert rows.position_ids[1, :3].tolist() == [0, 1, 2]


def test_log_probabilities_are_of_the_completions_alone(tiny_policy):
    model = load_policy(tiny_policy, PolicySettings()).model
    found = padded_logps(model, PaddedRows.of(SEQUENCES, 0), torch.float32)
    expected = []
    for prompt, completion in SEQUENCES:
        ids = torch.tensor([[*prompt, *completion]])
        logps = model(ids).logits[0].log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])
        expected.append(logps[len(prompt) - 1 :, 0])
    assert torch.allclose(found, torch.cat(expected), atol=1e-5)


def test_token_logps_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(4.0)]])
    found = token_logps(logits, torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx([math.log(3 / 4), math.log(4 / 5)], abs=1e-6)


def test_bfloat16_logits_are_summed_in_float32():
    torch.manual_seed(0)
    logits = torch.randn(300, 500).bfloat16()
    targets = torch.randint(500, (300,))
    found = token_logps(logits, targets)
    exact = logits.double().log_softmax(-1).gather(-1, targets[:, None]).sum().item()
    assert found.dtype == torch.float32
    assert found.sum().item() == pytest.approx(exact, abs=1e-2)
    assert abs(logits.log_softmax(-1).gather(-1, targets[:, None]).sum().item() - exact) > 0.1


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_the_gradient_is_the_textbooks_in_any_chunks(monkeypatch, rows):
    monkeypatch.setattr(padded, "_rows", lambda logits: rows)
    torch.manual_seed(0)
    logits = (3 * torch.randn(10, 17)).requires_grad_()
    targets, weights = torch.randint(17, (10,)), torch.randn(10)
    (weights * token_logps(logits, targets)).sum().backward()
    other = logits.detach().clone().requires_grad_()
    (weights * other.log_softmax(-1).gather(-1, targets[:, None])[:, 0]).sum().backward()
    assert logits.grad is not None
    assert other.grad is not None
    assert torch.allclose(logits.grad, other.grad, atol=1e-6)
