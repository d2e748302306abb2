"""Sampling by several workers, each with the policy: the file that one process writes, byte for byte."""

import gc
import weakref
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model

from drift.config import PolicySettings, SamplingSettings
from drift.engine import Processes, using_engine
from drift.errors import PrerequisiteError
from drift.policy import spread
from drift.policy.decode import decode_batch
from drift.policy.logps import logps_of_ids
from drift.policy.model import EVERY_GPU, Policy, cpu_threads, identified, load_policy, over_gpus, place
from drift.policy.sampler import sample
from drift.policy.samplers.requests import FreshReplies
from drift.policy.spread import SpreadPolicy
from drift.progress import listening
from drift.records import ChatMessage, Counts, PromptItem, write_jsonl
from drift.training.shared_prefix.probe import choose_packing
from engine.pieces import TwoModels

CPU = torch.device("cpu")
SAMPLING = SamplingSettings(max_new_tokens=8, batch_tokens=256)
PROMPTS = [
    PromptItem(f"p{n}", f"c{n}", 1, (ChatMessage("user", f"question {n} " + "why " * n),), "train") for n in range(10)
]


@pytest.fixture
def sampled(tiny_policy: Path, tmp_path: Path) -> Callable[..., tuple[Counts, bytes]]:
    """`sampled(name)`: the counts and the file of the stage, under the current engine."""
    write_jsonl(tmp_path / "prompts.jsonl", PROMPTS)

    def run(name: str, policy: Path = tiny_policy) -> tuple[Counts, bytes]:
        (tmp_path / name).mkdir(exist_ok=True)
        out = tmp_path / name / "completions.jsonl"
        fresh = FreshReplies(samples=2)
        counts = sample(out, policy, tmp_path / "prompts.jsonl", SAMPLING, fresh, PolicySettings(), 1, 7)
        return counts, out.read_bytes()

    return run


@pytest.fixture(autouse=True)
def no_policy_is_loaded() -> None:
    spread._load.cache_clear()


def test_the_same_bytes(sampled: Callable[..., Any]):
    expected = sampled("one")
    engine = TwoModels()
    with using_engine(engine):
        assert sampled("two") == expected
    assert len(engine.done) > 5
    assert expected[0]["completions"] == 20


def test_finished_batches_are_not_sampled_again_by_another_engine(sampled: Callable[..., Any]):
    expected = sampled("one")
    with using_engine(TwoModels(limit=3)), pytest.raises(KeyboardInterrupt):
        sampled("stopped")
    engine, notes = TwoModels(), list[str]()
    with using_engine(engine), listening(lambda *_: None, notes.append):
        assert sampled("stopped") == expected
    assert "Resuming: 3 batches already done" in notes
    assert engine.done == [f"batch {number} of the replies" for number in (2, 1, 0)]


def test_other_weights_on_a_worker(sampled: Callable[..., Any], tiny_policy: Path, monkeypatch: pytest.MonkeyPatch):
    """As where a model's name means something else on another node."""
    monkeypatch.setattr(spread, "load_policy", lambda *_: load_changed(tiny_policy))
    with (
        using_engine(TwoModels()),
        pytest.raises(PrerequisiteError, match=r"a worker loaded other weights \(\w+\) than the run has \(\w+\)"),
    ):
        sampled("two")


def load_changed(source: Path) -> Any:
    policy = load_policy(source, PolicySettings())
    next(policy.model.parameters()).data.add_(1.0)
    return identified(policy.model, policy.chat)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bytes_from_worker_processes(sampled: Callable[..., Any], threads: int):
    """With the threads of this process, whatever those of the workers are by default."""
    with cpu_threads(threads):
        expected = sampled("one")
        with closing(Processes(2 * threads)) as engine, using_engine(engine):
            assert sampled("two") == expected


def test_a_worker_holds_one_policy_at_a_time(tiny_policy: Path, monkeypatch: pytest.MonkeyPatch):
    models: list[weakref.ref[Any]] = []

    def load_alone(source: str, settings: PolicySettings, device: str) -> Policy:
        gc.collect()
        assert [model() for model in models] == [None] * len(models)
        policy = load_policy(source, settings, device)
        models.append(weakref.ref(policy.model))
        return policy

    monkeypatch.setattr(spread, "load_policy", load_alone)
    spread._load.cache_clear()
    one = spread.SpreadPolicy.of(tiny_policy, PolicySettings(), load_policy(tiny_policy, PolicySettings()).policy_id)
    for wanted in (one, one, replace(one, threads=one.threads + 1)):
        with wanted.loaded() as policy:
            assert policy.policy_id == one.policy_id
        del policy
    assert len(models) == 2


def test_a_worker_that_sees_several_gpus_divides_the_model(tiny_policy: Path, monkeypatch: pytest.MonkeyPatch):
    assert over_gpus(EVERY_GPU) == {}
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert over_gpus(EVERY_GPU) == {"device_map": "balanced"}
    assert over_gpus(None) == over_gpus("cpu") == {}  # the run's own process never divides it
    whole = load_policy(tiny_policy, PolicySettings())
    with SpreadPolicy.of(tiny_policy, PolicySettings(), whole.policy_id).loaded() as loaded:
        pass  # without a GPU, accelerate puts everything on the CPU
    names = ("model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb", "lm_head")
    hooked: Any = loaded.model  # as on two GPUs, accelerate passes what one part computes to the next one
    parts: Any = dict.fromkeys(names, CPU)
    dispatch_model(hooked, parts, force_hooks=True, skip_keys=hooked._skip_keys_device_placement)
    assert identified(hooked, loaded.chat).policy_id == whole.policy_id
    prompts, keys = [(5, 6, 7), (8, 9), (5, 6, 7)], ["a", "b", "c"]
    assert decode_batch(loaded, prompts, keys, SAMPLING) == decode_batch(whole, prompts, keys, SAMPLING)
    rows = [((5, 6, 7), (8, 9)), ((4,), (3, 2, 1))]
    assert logps_of_ids(loaded, rows) == logps_of_ids(whole, rows)


def test_a_model_that_does_not_fit_into_its_gpus(tiny_policy: Path):
    model: Any = load_policy(tiny_policy, PolicySettings()).model
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": 1, "lm_head": "cpu"}
    with pytest.raises(PrerequisiteError, match="does not fit into the 2 GPUs of its replica: raise"):
        place(model, EVERY_GPU)
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": 1}
    assert choose_packing(model).why.endswith("its layers are on several GPUs")
