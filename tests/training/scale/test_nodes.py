"""Training over several nodes: as on one machine, whatever is lost on the way.

On Ray, two hosts in namespaces; without it, two torchrun agents that meet by a rendezvous, as under Slurm. Each agent
is a node of two processes, so that weights shared within each node are a mesh of 2 x 2.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import torch

from drift.config import ClusterSettings, PolicySettings, TrainingSettings
from drift.errors import ConfigError, DataError
from drift.policy.model import load_policy
from drift.progress import ProgressListener, listening
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.scale.host import free_port
from drift.training.scale.nodes import arguments_of
from drift.training.scale.prerequisites import check_scale
from drift.training.scale.shares import _Index
from drift.training.train import train
from engine.cluster import head, ray_env, ray_start, running
from engine.hosts import Host, Wire, wired

SETTINGS = TrainingSettings(
    learning_rate=3e-3, optimizer="adamw_torch", batch_size=4, epochs=2, diagnostics=True, save_steps=2
)
AGENTS = """#!/bin/bash
agent() { torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-id x --rdzv-endpoint 127.0.0.1:PORT "$@"; }
agent "$@" &
agent "$@"
status=$?
wait $! && exit $status
"""
DRIVER = """
import sys
from pathlib import Path
from drift.config import ClusterSettings, PolicySettings, TrainingSettings
from drift.engine import open_engine
from drift.progress import listening
from drift.training.train import train
folder, start, address = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
tell = lambda *words: print(*words, file=sys.__stdout__, flush=True)  # stdout itself is Ray's meanwhile
settings = TrainingSettings.model_validate_json(sys.argv[4])
with (
    listening(lambda done, total, _: tell(done), lambda note: tell("note", note)),
    open_engine(ClusterSettings(address=address, nodes=2, retries=3), folder),
):
    pairs = folder.parent / "pairs.jsonl"
    train(folder / "policy", start, folder / "reference.safetensors", pairs, settings, PolicySettings(), 1)
"""


def pair(n: int) -> PreferencePair:
    prompt = (ChatMessage("user", f"question {n} " * (1 + n % 3)),)
    replies = [(ChatMessage("assistant", text),) for text in ("good answer " * (1 + n % 2), f"no idea {n}")]
    return PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", prompt, replies[0], replies[1], weight=1 + n % 2)


def prepared(folder: Path, start: Path, count: int = 9) -> Path:
    """A folder with the reference of the pairs beside it."""
    pairs = folder.parent / "pairs.jsonl"
    write_jsonl(pairs, [pair(n) for n in range(count)])
    folder.mkdir()
    measure_reference(
        folder / "reference.safetensors", (start,) * 3, pairs, ReferenceSettings.of(SETTINGS, PolicySettings())
    )
    return folder


def train_in(
    folder: Path, start: Path, settings: TrainingSettings, on_progress: ProgressListener = lambda *_: None
) -> list[str]:
    notes: list[str] = []
    pairs = folder.parent / "pairs.jsonl"
    with listening(on_progress, notes.append):
        train(folder / "policy", start, folder / "reference.safetensors", pairs, settings, PolicySettings(), 1)
    return notes


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_policy(folder / "policy", PolicySettings()).model.state_dict()


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def killed_after(steps: int, command: list[str]) -> None:
    """Power is cut after so many steps: every process is gone at once."""
    process = subprocess.Popen(command, env=ray_env(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert str(steps) in (line.strip() for line in process.stdout)
    everyone = psutil.Process(process.pid)
    for one in (*everyone.children(recursive=True), everyone):
        one.kill()
    process.wait()


@pytest.mark.slow
def test_two_agents_share_the_weights_within_each(tiny_policy, tmp_path):
    (tmp_path / "agents.sh").write_text(AGENTS.replace("PORT", str(free_port("127.0.0.1"))))
    shared = SETTINGS.model_copy(update={"launch": f"bash {tmp_path}/agents.sh", "shard": "node"})
    alone, whole = prepared(tmp_path / "alone", tiny_policy), prepared(tmp_path / "whole", tiny_policy)
    train_in(alone, tiny_policy, SETTINGS)
    notes = train_in(whole, tiny_policy, shared)
    assert "4 processes share every training step, and the weights within each node" in notes
    for one, other in zip(rows(alone), rows(whole), strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5)
    expected, found = weights(alone), weights(whole)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=2e-5)

    killed = prepared(tmp_path / "killed", tiny_policy)
    once = "from training.scale.test_nodes import *; train_and_tell(*sys.argv[1:])"
    killed_after(4, [sys.executable, "-c", once, str(killed), str(tiny_policy), shared.model_dump_json()])
    notes = train_in(killed, tiny_policy, shared)
    assert any(note.startswith("Resuming: ") for note in notes)
    assert (killed / "policy/model.safetensors").read_bytes() == (whole / "policy/model.safetensors").read_bytes()
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def train_and_tell(folder: str, start: str, settings: str) -> None:
    """In a process of its own: after step 4 it waits to be killed."""

    def wait(done: int, _total: int, _tokens: int) -> None:
        print(done, flush=True)
        if done == 4:
            time.sleep(600)

    train_in(Path(folder), Path(start), TrainingSettings.model_validate_json(settings), wait)


@pytest.fixture
def hosts() -> Iterator[tuple[Wire, str, list[Host]]]:
    """A Ray cluster of two hosts, with one core each."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'drift-training[ray]'")
    with ExitStack() as stack:
        try:
            wire = stack.enter_context(wired())
        except OSError as error:
            pytest.skip(f"this machine has no user namespaces, or no bridges in them: {error}")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dr-", dir="/tmp")))
        first, second = Host(wire, [folder]), Host(wire, [folder])
        start = head(6379, str(folder), f"--node-ip-address={first.address}", "--num-cpus=1")
        stack.enter_context(running(first.command(*start)))
        join = ray_start(f"--address={first.address}:6379", f"--node-ip-address={second.address}", "--num-cpus=1")
        stack.enter_context(running(second.command(*join)))
        yield wire, f"{first.address}:6379", [first, second]


@pytest.mark.slow
def test_two_hosts_train_what_two_processes_train_though_one_is_killed(hosts, tiny_policy, tmp_path):
    _, address, (first, second) = hosts
    here, there = prepared(tmp_path / "here", tiny_policy), prepared(tmp_path / "there", tiny_policy)
    long = SETTINGS.model_copy(update={"epochs": 30, "save_steps": 10})  # 90 steps
    train_in(here, tiny_policy, long.model_copy(update={"launch": "torchrun --standalone --nproc-per-node 2"}))
    settings = long.model_copy(update={"launch": "torchrun --nproc-per-node 1"})
    script = [sys.executable, "-c", DRIVER, str(there), str(tiny_policy), address, settings.model_dump_json()]
    command = first.command(*script)
    driver = subprocess.Popen(command, env=ray_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    lines, killed = list[str](), False
    for line in map(str.strip, driver.stdout):
        lines.append(line)
        if not killed and line.isdecimal() and int(line) > 10:
            rank_on(second).kill()
            killed = True
    assert driver.wait() == 0, driver.stderr.read() if driver.stderr else lines
    assert any("attempt 2 of 3 continues from the last checkpoint" in line for line in lines), lines
    assert any("Resuming: " in line for line in lines), lines
    assert (there / "policy/model.safetensors").read_bytes() == (here / "policy/model.safetensors").read_bytes()
    assert (there / "metrics.jsonl").read_text() == (here / "metrics.jsonl").read_text()


def rank_on(host: Host) -> psutil.Process:
    """The training process of a host."""
    network = os.readlink(f"/proc/{host._init}/ns/net")
    for one in psutil.process_iter(["cmdline"]):
        words = one.info["cmdline"] or ()
        if "-u" in words and "drift.training.scale.rank" in words and network == os.readlink(f"/proc/{one.pid}/ns/net"):
            return one
    raise AssertionError("no training process")


def test_only_torchrun_starts_on_nodes():
    assert arguments_of("/opt/bin/torchrun --nproc-per-node 8") == ["--nproc-per-node", "8"]
    with pytest.raises(ConfigError, match=r"training.launch='accelerate launch': with cluster.nodes each node starts"):
        arguments_of("accelerate launch")
    with pytest.raises(ConfigError, match=r"cluster.nodes=2 is for trainings in several processes"):
        check_scale(PolicySettings(), TrainingSettings(), nodes=2)
    check_scale(PolicySettings(), TrainingSettings(launch="torchrun"), nodes=2)


@pytest.mark.parametrize("address", [None, "local"])
def test_nodes_need_a_cluster(address):
    with pytest.raises(ValueError, match=r"nodes=2 needs the nodes of a Ray cluster: set cluster.address"):
        ClusterSettings(address=address, nodes=2)


def test_an_index_that_would_run_code_is_refused(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "index").write_bytes(pickle.dumps(Evil()))
    with (tmp_path / "index").open("rb") as file, pytest.raises(DataError, match=r"names builtins.print, which is no"):
        _Index(file).load()
