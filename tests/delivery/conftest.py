"""A finished run that trained an adapter on complaints with consent tags, once for all tests of this folder."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from drift.config import parse_config
from drift.run import run_config
from drift.store import Store, first_store
from drift.rundir import load_run

WORDS = ("marzipan", "quagmire", "zeppelin", "obelisk", "tarantula", "juniper", "cobalt", "falafel")


@dataclass(frozen=True)
class AdapterRun:
    """`run`: of the adapter; `base`: the folder of the model that it was trained on."""

    run: Path
    base: Path

    @property
    def store(self) -> Store:
        store = first_store(load_run(self.run).store_folders)
        assert store is not None
        return store


def chat(number: int) -> dict:
    """A chat whose first reply was disliked and, every fourth time, mended. Texts are long and unusual, and some tags
    hold a text of the conversation."""
    words = " ".join(WORDS[(number + step) % len(WORDS)] for step in range(5))
    messages = [
        {"role": "user", "content": f"Please bring the {words} number {number} to order."},
        {"role": "assistant", "content": f"The {words} is lost since {number} days.", "feedback": -1},
        {"role": "user", "content": f"No, I wanted the {words} sorted for {number} guests."},
    ]
    if number % 4 == 0:
        messages.append({"role": "assistant", "content": f"Sorted {words} for you, {number} times.", "feedback": 1})
    licence = "CC-BY-4.0" if number % 2 else f"<b>{messages[0]['content']}</b>\n# free"
    tags = {"consent": "training" if number % 3 else "yes", "license": licence, "consent_time": f"12:{number}"}
    return {"id": f"chat-{number}", "user": f"u{number % 5}", "messages": messages, **tags}


def settings(folder: Path, policy: dict):
    """A config of one small iteration on 40 chats."""
    logs = folder / "logs.jsonl"
    logs.write_text("".join(json.dumps(chat(number)) + "\n" for number in range(40)), encoding="utf-8")
    stage = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}
    tree = {
        "name": "test",
        "logs": [str(logs)],
        "iterations": 1,
        "policy": policy,
        "sampling": {"max_new_tokens": 8, "max_prompt_length": 512},
        "training": {**stage, "learning_rate": 1e-2, "epochs": 3},
        "warm_start": {**stage, "epochs": 1},
    }
    return parse_config(tree, "test")


@pytest.fixture(scope="session")
def adapter_run(tiny_policy, tmp_path_factory) -> AdapterRun:
    folder = tmp_path_factory.mktemp("adapter-run")
    shutil.copytree(tiny_policy, folder / "base")
    cfg = settings(folder, {"model": str(folder / "base"), "lora": {"r": 4, "alpha": 8}})
    run_config(cfg, folder / "run")
    return AdapterRun(folder / "run", folder / "base")
