"""A training that is killed in the middle of an epoch ends in the bits of one that was not."""

import re
import shutil
import subprocess
import sys

import psutil
import pytest

from drift.config import LoraSettings, PolicySettings, TrainingSettings
from drift.progress import listening
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.rundir import partial_work
from drift.training.checkpoint import Checkpoints
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.train import train

SETTINGS = TrainingSettings(
    learning_rate=3e-3, optimizer="adamw_torch", batch_size=2, epochs=2, save_steps=2, diagnostics=True
)
TWO = {"launch": "torchrun --standalone --nproc-per-node 2"}
SLOWED = """
import sys, time
from pathlib import Path
from drift.config import PolicySettings, TrainingSettings
from drift.progress import listening
from drift.training.train import train
folder, start, settings, policy = sys.argv[1:]
folder = Path(folder)
def wait(done, total, _):
    print(done, flush=True)
    if done == 6:
        time.sleep(600)
with listening(wait):
    train(folder / "policy", start, folder / "reference.safetensors", folder.parent / "pairs.jsonl",
          TrainingSettings.model_validate_json(settings), PolicySettings.model_validate_json(policy), 1)
"""


def pair(n: int) -> PreferencePair:
    prompt = (ChatMessage("user", f"question {n}"),)
    replies = [(ChatMessage("assistant", text),) for text in (f"good answer {n * n}", "no idea")]
    return PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", prompt, replies[0], replies[1])


def train_in(folder, start, policy, settings, on_progress=lambda *_: None) -> list[str]:
    """What people are told on the way."""
    notes: list[str] = []
    reference = folder / "reference.safetensors"
    if not reference.exists():
        folder.mkdir(exist_ok=True)
        measure_reference(
            reference, (start, start, start), folder.parent / "pairs.jsonl", ReferenceSettings.of(settings, policy)
        )
    with listening(on_progress, notes.append):
        train(folder / "policy", start, reference, folder.parent / "pairs.jsonl", settings, policy, 1)
    return notes


def killed_at_step_6(folder, start, policy, settings) -> None:
    """Power is cut: every process is gone at once."""
    command = [SLOWED, str(folder), str(start), settings.model_dump_json(), policy.model_dump_json()]
    process = subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE, text=True)
    assert "6" in (line.strip() for line in process.stdout)
    everyone = psutil.Process(process.pid)
    for one in (*everyone.children(recursive=True), everyone):
        one.kill()
    process.wait()


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused"])
def test_a_training_goes_on_from_the_files_of_its_sixth_step(tiny_policy, tmp_path, optimizer):
    """A copy of all files at that moment is what a kill leaves; the test below does kill, which takes a process."""
    write_jsonl(tmp_path / "pairs.jsonl", [pair(n) for n in range(10)])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = SETTINGS.model_copy(update={"optimizer": optimizer})

    def copy_at_step_6(done: int, *_: int) -> None:
        if done == 6:
            shutil.copytree(whole, killed)

    train_in(whole, tiny_policy, PolicySettings(), settings, copy_at_step_6)
    kept = [path.name for path in partial_work(killed / "policy").glob("checkpoint-*")]
    assert kept == ["checkpoint-4"]  # that of step 6 (the second of epoch 2) is not there yet
    notes = train_in(killed, tiny_policy, PolicySettings(), settings)
    assert "Resuming: 4 training steps already done" in "\n".join(notes)
    for name in ("policy/model.safetensors", "metrics.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "launch"),
    [
        (PolicySettings(), {}),
        (PolicySettings(lora=LoraSettings(r=4)), {}),
        (PolicySettings(dtype="bfloat16"), {}),
        (PolicySettings(), TWO),
        (PolicySettings(), {**TWO, "shard": True}),
        (PolicySettings(lora=LoraSettings(r=4)), {**TWO, "shard": True}),
    ],
    ids=["full", "lora", "bfloat16", "two processes", "sharded", "sharded lora"],
)
def test_a_killed_training_ends_in_the_same_bits(tiny_policy, tmp_path, policy, launch):
    write_jsonl(tmp_path / "pairs.jsonl", [pair(n) for n in range(10)])
    whole, killed, settings = tmp_path / "whole", tmp_path / "killed", SETTINGS.model_copy(update=launch)
    train_in(whole, tiny_policy, policy, settings)
    killed.mkdir()
    (killed / "reference.safetensors").write_bytes((whole / "reference.safetensors").read_bytes())
    killed_at_step_6(killed, tiny_policy, policy, settings)
    kept = [path.name for path in partial_work(killed / "policy").glob("checkpoint-*")]
    if not launch:  # the checkpoint of step 4 is there, that of step 6 (the second of epoch 2) is not
        assert kept == ["checkpoint-4"]

    notes = train_in(killed, tiny_policy, policy, settings)
    # the processes of a launcher do not wait to be heard, so they may have come further
    resumed = re.search(r"Resuming: (\d+) training steps already done", "\n".join(notes))
    assert resumed
    assert f"checkpoint-{resumed[1]}" in kept
    name = "adapter_model.safetensors" if policy.lora else "model.safetensors"
    assert (killed / "policy" / name).read_bytes() == (whole / "policy" / name).read_bytes()
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_a_checkpoint_counts_when_it_is_whole_and_of_this_training(tmp_path):
    mine, other = Checkpoints(tmp_path, "mine"), Checkpoints(tmp_path, "other")
    for step in (4, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert mine.latest() is None
    mine.seal(tmp_path / "checkpoint-10", [{"step": 1, "loss": 0.5}])
    (tmp_path / "checkpoint-12").mkdir()  # the process died while it was written
    assert mine.latest() == tmp_path / "checkpoint-10"
    assert other.latest() is None
    assert not (tmp_path / "checkpoint-4").exists()
