"""`stop.rule: gate` in the loop: a policy that a guard fails ends the run and is not kept."""

import json
from pathlib import Path

import pytest

from drift.config import parse_config
from drift.gate import run as gate_run
from drift.gate.results import read_gate
from drift.progress import listening
from drift.run import run_config
from drift.rundir import load_run


def chats(path: Path) -> Path:
    """60 chats with a disliked reply, 240 that nobody complained about."""
    rows = []
    for number in range(300):
        reply = {"role": "assistant", "content": f"{number} and 2 are {number + 2}."}
        messages = [{"role": "user", "content": f"Please add {number} and 2."}, reply]
        if number % 5 == 0:
            reply |= {"content": f"{number}2", "feedback": -1}
            messages.append({"role": "user", "content": f"No, I meant {number} + 2."})
        rows.append({"id": f"chat-{number}", "user": f"u{number}", "messages": messages})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def config(logs: Path, policy: Path, learning_rate: float):
    stage = {"learning_rate": learning_rate, "optimizer": "adamw_torch", "batch_size": 16}
    return parse_config(
        {
            "name": "test",
            "logs": [str(logs)],
            "iterations": 2,
            "policy": {"model": str(policy)},
            "sampling": {"max_new_tokens": 8, "max_prompt_length": 512},
            "training": stage,
            "warm_start": {"epochs": 0},
            "stop": {"rule": "gate"},
        },
        "test",
    )


@pytest.mark.slow
@pytest.mark.parametrize(("learning_rate", "kept"), [(3e-2, 0), (1e-7, 2)])
def test_a_policy_that_moved_too_far_is_not_kept(tmp_path, tiny_policy, monkeypatch, learning_rate, kept):
    """A learning rate of .03 breaks the policy, so `perplexity` or `kl` fails; with 1e-7 nothing moves."""
    monkeypatch.setattr(gate_run, "ITEMS", 20)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        run_config(config(chats(tmp_path / "logs.jsonl"), tiny_policy, learning_rate), tmp_path / "run")
    assert load_run(tmp_path / "run").kept == kept
    first = read_gate(tmp_path / "run" / "iteration-1" / "gate.json")
    assert (first.verdict, first.target, first.look) == ("fail" if kept == 0 else "undecided", None, 1)
    stopped = [note for note in notes if note.startswith("stopped after iteration 1 by the gate: ")]
    assert len(stopped) == (kept == 0)
    if kept:
        assert read_gate(tmp_path / "run" / "iteration-2" / "gate.json").look == 2
        assert {guard.verdict for guard in first.guards if guard.name in ("perplexity", "kl")} == {"pass"}
