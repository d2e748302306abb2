"""Small runs of the loop: chats with complaints, and settings under which a tiny policy learns from them."""

import json
from collections.abc import Iterable
from pathlib import Path

from drift.config import Config, parse_config

STAGE = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}


def thumbed(number: int) -> dict:
    """A chat whose first reply was disliked and, every fourth time, mended to the user's liking."""
    messages = [
        {"role": "user", "content": f"Please add {number} and 2."},
        {"role": "assistant", "content": f"{number}2", "feedback": -1},
        {"role": "user", "content": f"No, I meant {number} + 2."},
    ]
    if number % 4 == 0:
        messages.append({"role": "assistant", "content": f"{number + 2}", "feedback": 1})
    return {"id": f"chat-{number}", "user": f"u{number % 5}", "messages": messages}


def write_logs(folder: Path, chats: int = 60) -> Path:
    return write_chats(folder, map(thumbed, range(chats)))


def write_chats(folder: Path, chats: Iterable[dict]) -> Path:
    path = folder / "logs.jsonl"
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
    return path


def settings(logs: Path, policy: Path, /, **changes) -> Config:
    tree = {
        "name": "test",
        "logs": [str(logs)],
        "iterations": 2,
        "policy": {"model": str(policy)},
        "sampling": {"max_new_tokens": 8, "max_prompt_length": 512},
        "training": STAGE,
        "warm_start": {**STAGE, "epochs": 1},
    }
    return parse_config({**tree, **changes}, "test")
