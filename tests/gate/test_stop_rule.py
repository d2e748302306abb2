"""`stop.rule: gate` in the loop: a policy that a guard fails ends the run and is not kept."""

from collections.abc import Iterator

import pytest

from drift.gate import run as gate_run
from drift.gate.results import read_gate
from drift.progress import listening
from drift.run import run_config
from drift.rundir import load_run
from small_runs import STAGE, settings, write_chats


def chats() -> Iterator[dict]:
    """60 chats with a disliked reply, 240 that nobody complained about."""
    for number in range(300):
        reply = {"role": "assistant", "content": f"{number} and 2 are {number + 2}."}
        messages = [{"role": "user", "content": f"Please add {number} and 2."}, reply]
        if number % 5 == 0:
            reply |= {"content": f"{number}2", "feedback": -1}
            messages.append({"role": "user", "content": f"No, I meant {number} + 2."})
        yield {"id": f"chat-{number}", "user": f"u{number}", "messages": messages}


@pytest.mark.slow
@pytest.mark.parametrize(("learning_rate", "kept"), [(3e-2, 0), (1e-7, 2)])
def test_a_policy_that_moved_too_far_is_not_kept(tmp_path, tiny_policy, monkeypatch, learning_rate, kept):
    """A learning rate of .03 breaks the policy, so `perplexity` or `kl` fails; with 1e-7 nothing moves."""
    monkeypatch.setattr(gate_run, "ITEMS", 20)
    notes: list[str] = []
    cfg = settings(
        write_chats(tmp_path, chats()),
        tiny_policy,
        training={**STAGE, "learning_rate": learning_rate},
        warm_start={"epochs": 0},
        stop={"rule": "gate"},
    )
    with listening(lambda *_: None, notes.append):
        run_config(cfg, tmp_path / "run")
    assert load_run(tmp_path / "run").kept == kept
    first = read_gate(tmp_path / "run" / "iteration-1" / "gate.json")
    assert (first.verdict, first.target, first.look) == ("fail" if kept == 0 else "undecided", None, 1)
    stopped = [note for note in notes if note.startswith("stopped after iteration 1 by the gate: ")]
    assert len(stopped) == (kept == 0)
    if kept:
        assert read_gate(tmp_path / "run" / "iteration-2" / "gate.json").look == 2
        assert {guard.verdict for guard in first.guards if guard.name in ("perplexity", "kl")} == {"pass"}
