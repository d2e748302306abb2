"""What only a CUDA device can show: its attention kernel, its products of bfloat16 with float32 sums, and all of it
together. None of it has been run yet where no device was at hand."""

import copy
import json

import pytest
import torch

from drift.config import LoraSettings, PolicySettings, TrainingSettings
from drift.policy.model import load_policy
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.training.batch import StepCollator, per_token_logps
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.shared_prefix import choose_packing
from drift.training.shared_prefix.attention import NAME, NAME_VARLEN
from drift.training.tokens import TokenPair
from drift.training.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def pairs(count: int = 6) -> list[TokenPair]:
    torch.manual_seed(1)

    def ids(longest: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 250, (int(torch.randint(longest // 2, longest, ())),)).tolist())

    return [TokenPair(ids(120), ids(40), ids(60), 1.0, 0.0, -20.0, -25.0) for _ in range(count)]


def computed(model, head, shared: bool, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of every completion token, and the gradient of their sum, each in float32."""
    (batch,) = StepCollator(0, 100_000, shared, head)(pairs())
    model.zero_grad()
    logps = per_token_logps(model, batch.to(torch.device("cuda")), dtype)
    logps.sum().backward()
    return logps.detach(), torch.cat([weight.grad.float().flatten() for weight in model.parameters()])


def off(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


@pytest.mark.parametrize("head", ["model", "kept", "again"])
def test_the_kernel_for_different_lengths_gives_what_the_plain_path_gives(tiny_policy, head):
    model = load_policy(tiny_policy, PolicySettings()).model
    plain = copy.deepcopy(model)
    packing = choose_packing(model)
    assert packing.shared
    assert model.config._attn_implementation == NAME_VARLEN
    assert "in one kernel call" in packing.why
    truth, slope = computed(plain, "model", False, torch.float32)
    coarse, coarse_slope = computed(plain, "model", False, torch.bfloat16)
    limit, limit_of_slope = off(coarse, truth), off(coarse_slope, slope)
    found, found_slope = computed(model, head, True, torch.bfloat16)
    assert off(found, truth) < 1.5 * limit
    assert off(found_slope, slope) < 1.5 * limit_of_slope
    model.set_attn_implementation(NAME)  # as on the CPU, one call for each part of a pair
    found, found_slope = computed(model, head, True, torch.float32)
    assert off(found, truth) < 2e-5
    assert off(found_slope, slope) < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_with_gradient_checkpointing_learns(tiny_policy, tmp_path, dtype):
    prompts = [(ChatMessage("user", f"question {n}"),) for n in range(10)]
    replies = [(ChatMessage("assistant", text),) for text in ("good answer", "no idea")]
    write_jsonl(
        tmp_path / "pairs.jsonl",
        [PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", prompts[n], *replies) for n in range(10)],
    )
    settings = TrainingSettings(
        learning_rate=3e-3, optimizer="adamw_torch", epochs=4, gradient_checkpointing=True, diagnostics=True
    )
    policy = PolicySettings(dtype=dtype, lora=LoraSettings(r=4, alpha=8))
    reference = tmp_path / "reference.safetensors"
    measure = ReferenceSettings.of(settings, policy)
    measure_reference(reference, (tiny_policy,) * 3, tmp_path / "pairs.jsonl", measure)
    counts = train(tmp_path / "policy", tiny_policy, reference, tmp_path / "pairs.jsonl", settings, policy, 1)
    assert counts["shared_prefix"] == 1
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert steps[0]["rewards/margins"] == pytest.approx(0.0, abs=5e-2)
    assert steps[-1]["rewards/margins"] > 0.1


def test_bfloat16_is_no_further_from_the_truth_than_trls(tmp_path):
    pytest.importorskip("trl", reason="the rival is in the extra `dev`")
    from drift.bench.sides import Conditions, Ours, Rival, Shape, make_model, make_pairs

    shape = Shape(hidden=64, layers=2, heads=4, mlp=128, vocabulary=512, prompt=(30, 50), reply=(10, 25), scale=1.0)
    low, exact = Conditions(dtype="bfloat16"), Conditions(dtype="float32")

    def gradient(side, given) -> torch.Tensor:
        side.backward(given)
        return torch.cat([p.grad.float().flatten() for p in side.model.parameters() if p.grad is not None])

    errors, trls = [], []
    for seed in range(4):
        made = make_pairs(shape, 8, seed)

        def model(conditions, seed=seed):
            return make_model(shape, conditions, seed).cuda()

        truth_side = Ours(model(exact), exact, seed, tmp_path)
        truth = gradient(truth_side, truth_side.reference(truth_side.model, made))
        ours = Ours(model(low), low, seed, tmp_path)
        errors.append(off(gradient(ours, ours.reference(ours.model, made)), truth))
        trls.append(off(gradient(Rival(model(low), model(low), low, seed, tmp_path), made), truth))
    assert sum(errors) < 1.05 * sum(trls)
