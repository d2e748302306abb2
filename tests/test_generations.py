"""Chains of runs: a generation learns from what came since the one before, and from a share of what is older."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from drift.config import Config, parse_config
from drift.records import PreferencePair, PromptItem, read_jsonl
from drift.run import GenerationSummary, RunSummary, run_config
from drift.rundir import load_run
from drift.store import Store

STAGE = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}


def complaint(number: int, model: str = "bot-1", more: int = 0) -> dict:
    """A chat whose first reply was disliked; `more` disliked replies follow it."""
    messages = [{"role": "user", "content": f"Please add {number} and 2."}]
    for turn in range(1 + more):
        messages += [
            {"role": "assistant", "content": f"{number}2{turn}", "feedback": -1},
            {"role": "user", "content": f"No, I meant {number} + 2, not {turn}."},
        ]
    return {"id": f"chat-{number}", "user": f"u{number % 5}", "model": model, "messages": messages}


class Chain:
    """Runs in one folder, over one store that grows."""

    def __init__(self, folder: Path, policy: Path) -> None:
        self.folder = folder
        self.policy = policy

    def config(self, rows: list[dict], **changes) -> Config:
        logs = self.folder / "logs.jsonl"
        logs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        tree = {
            "name": "chain",
            "logs": [str(logs)] if rows else [],
            "store": str(self.folder / "store"),
            "iterations": 1,
            "policy": {"model": str(self.policy)},
            "sampling": {"max_new_tokens": 4, "max_prompt_length": 512},
            "training": STAGE,
            "warm_start": {**STAGE, "epochs": 0},
            "evaluation": {"max_prompts": 4},
        }
        return parse_config({**tree, **changes}, "test")

    def run(self, name: str, rows: list[dict], **changes) -> RunSummary:
        return run_config(self.config(rows, **changes), self.folder / name)

    def after(self, before: str, name: str, rows: list[dict], **changes) -> GenerationSummary:
        done = self.run(name, rows, **{"from": str(self.folder / before)}, **changes)
        assert isinstance(done, GenerationSummary)
        return done


@pytest.fixture
def chain(tmp_path, tiny_policy) -> Chain:
    return Chain(tmp_path, tiny_policy)


def numbers(file: Path) -> list[int]:
    """Which chats the prompts of a file come from, in order."""
    return [int(item.prompt[0].content.split()[2]) for item in read_jsonl(file, PromptItem)]


def test_three_generations(chain):
    first = chain.run("1", [complaint(n) for n in range(24)])
    second = chain.after("1", "2", [complaint(n) for n in range(40)])
    print(second, load_run(Path(second.run)).state)
    third = chain.after("2", "3", [complaint(n) for n in range(56)])
    print(third, load_run(Path(third.run)).state)
    for s in load_run(Path(third.run)).stages: print(s.name, s.counts)
    assert 0
