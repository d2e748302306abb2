"""Two gloo processes on the CPU train what one process trains."""

import json
from dataclasses import replace

import pytest
import torch

from drift.config import LoraSettings, PolicySettings, TrainingSettings
from drift.errors import DataError, DriftError, PrerequisiteError
from drift.policy.model import load_policy
from drift.progress import listening
from drift.records import ChatMessage, PreferencePair, read_jsonl, write_jsonl
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.train import train

SETTINGS = TrainingSettings(
    learning_rate=3e-3, optimizer="adamw_torch", batch_size=4, epochs=1, diagnostics=True, save_steps=2
)
WHOLE = PolicySettings()
TORCHRUN = "torchrun --standalone --nproc-per-node 2"
ACCELERATE = "accelerate launch --multi_gpu --num_processes 2 --main_process_port 0"


@pytest.fixture
def pairs(tmp_path):
    def pair(n: int) -> PreferencePair:
        prompt = (ChatMessage("user", f"question {n} " * (1 + n % 3)),)
        replies = [(ChatMessage("assistant", text),) for text in ("good answer " * (1 + n % 2), "no idea")]
        return PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", prompt, replies[0], replies[1], weight=1 + n % 2)

    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, [pair(n) for n in range(9)])  # the last step holds one pair: a process has none
    return path


def train_in(folder, start, pairs, settings, policy=WHOLE) -> list[dict]:
    folder.mkdir()
    measure_reference(
        folder / "reference.safetensors", (start, start, start), pairs, ReferenceSettings.of(settings, policy)
    )
    train(folder / "policy", start, folder / "reference.safetensors", pairs, settings, policy, 1)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        (WHOLE, {}),
        (WHOLE, {"gradient_checkpointing": True}),
        (WHOLE, {"launch": ACCELERATE}),
        (WHOLE, {"shard": True}),
        (WHOLE, {"shard": True, "gradient_checkpointing": True, "optimizer": "rmsprop"}),
        (WHOLE, {"shard": True, "optimizer": "adamw_torch_fused"}),
        (PolicySettings(lora=LoraSettings(r=4)), {"shard": True}),
    ],
    ids=[
        "whole",
        "checkpointing",
        "accelerate",
        "sharded",
        "sharded, checkpointing",
        "sharded, fused",
        "sharded, lora",
    ],
)
def test_two_processes_are_one(tiny_policy, pairs, tmp_path, policy, changes):
    seen: list[tuple[int, int]] = []
    notes: list[str] = []
    once = SETTINGS.model_copy(update={name: changes[name] for name in changes if name not in ("launch", "shard")})
    alone = train_in(tmp_path / "one", tiny_policy, pairs, once, policy)
    with listening(lambda done, total, _: seen.append((done, total)), notes.append):
        twice = SETTINGS.model_copy(update={"launch": TORCHRUN, **changes})
        both = train_in(tmp_path / "two", tiny_policy, pairs, twice, policy)
    shared = ", and the weights" if twice.shard else ""
    assert f"2 processes share every training step{shared}" in notes
    assert len(both) == len(alone) == 5
    for one, two in zip(alone, both, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    expected, found = (load_policy(tmp_path / name / "policy", policy).model.state_dict() for name in ("one", "two"))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=2e-5)
    assert (3, 3) in seen


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_estimate_one_z0(tiny_policy, pairs, tmp_path, shard):
    rows = list(read_jsonl(pairs, PreferencePair))
    rows = [replace(row, chosen=()) if n % 2 else replace(row, rejected=()) for n, row in enumerate(rows)]
    write_jsonl(pairs, rows)
    settings = SETTINGS.model_copy(update={"loss": "kto", "diagnostics": False, "epochs": 2})
    alone = train_in(tmp_path / "one", tiny_policy, pairs, settings)
    launched = settings.model_copy(update={"launch": TORCHRUN, "shard": shard})
    both = train_in(tmp_path / "two", tiny_policy, pairs, launched)
    assert len(both) == len(alone) == 6
    for one, two in zip(alone, both, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    assert any(row["kl"] > 0 for row in alone)


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_told_as_if_it_were_one(tiny_policy, pairs, tmp_path):
    launched = SETTINGS.model_copy(update={"launch": TORCHRUN, "learning_rate": 1e30, "batch_size": 1})
    with pytest.raises(DriftError, match=r"training step \d: the loss is nan"):
        train_in(tmp_path / "run", tiny_policy, pairs, launched)


@pytest.mark.slow
def test_processes_take_log_probs_of_other_weights_only_from_a_warm_start(tiny_policy, pairs, tmp_path):
    trained = train_in(tmp_path / "one", tiny_policy, pairs, SETTINGS)
    assert len(trained) == 5
    start, file = tmp_path / "one" / "policy", tmp_path / "one" / "reference.safetensors"
    launched = SETTINGS.model_copy(update={"launch": TORCHRUN, "diagnostics": False})
    with pytest.raises(DataError, match="reference log-probs do not match the weights"):
        train(tmp_path / "two" / "policy", start, file, pairs, launched, WHOLE, 1)
    of_the_warm_start = launched.model_copy(update={"reference": "warm_start"})
    counts = train(tmp_path / "two" / "policy", start, file, pairs, of_the_warm_start, WHOLE, 1)
    assert counts["steps"] == 3


def test_a_launcher_that_is_not_there(tiny_policy, pairs, tmp_path):
    with pytest.raises(PrerequisiteError, match=r"training.launch 'trochrun': No such file"):
        train_in(tmp_path / "run", tiny_policy, pairs, SETTINGS.model_copy(update={"launch": "trochrun"}))
