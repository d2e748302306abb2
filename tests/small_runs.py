"""Small runs of the loop: chats with complaints, and settings under which a tiny policy learns from them."""

import json
from pathlib import Path

from drift.config import Config, parse_config


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


def write_logs(folder: Path) -> Path:
    path = folder / "logs.jsonl"
    path.write_text("".join(json.dumps(thumbed(n)) + "\n" for n in range(60)), encoding="utf-8")
    return path


def settings(logs: Path, policy: Path, **changes) -> Config:
    stage = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}
    tree = {
        "name": "test",
        "logs": [str(logs)],
        "iterations": 2,
        "policy": {"model": str(policy)},
        "sampling": {"max_new_tokens": 8, "max_prompt_length": 512},
        "training": stage,
        "warm_start": {**stage, "epochs": 1},
    }
    return parse_config({**tree, **changes}, "test")
