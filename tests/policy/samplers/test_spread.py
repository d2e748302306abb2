"""Sampling by several workers, each with the policy: the file that one process writes, byte for byte."""

import gc
import weakref
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drift.config import PolicySettings, RecipeSettings, SamplingSettings
from drift.engine import Processes, using_engine
from drift.errors import PrerequisiteError
from drift.policy import spread
from drift.policy.model import Policy, cpu_threads, load_policy
from drift.policy.sampler import sample
from drift.progress import listening
from drift.records import ChatMessage, Counts, PromptItem, write_jsonl
from engine.pieces import TwoModels

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
        recipe = RecipeSettings(samples=2, guided_share=0.0)
        counts = sample(out, policy, tmp_path / "prompts.jsonl", SAMPLING, recipe, PolicySettings(), 1, 7)
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
    from drift.policy.model import identified, load_policy

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

    def load_alone(source: str, settings: PolicySettings) -> Policy:
        gc.collect()
        assert [model() for model in models] == [None] * len(models)
        policy = load_policy(source, settings)
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
