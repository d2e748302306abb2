"""What is gathered from a run folder, and what is left alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from drift.gate.results import GateResult
from drift.progress import listening
from drift.records import (
    ChatMessage,
    Conversation,
    Counts,
    Message,
    PreferencePair,
    PromptItem,
    read_jsonl,
    write_jsonl,
)
from drift.report import write_report
from drift.report.contents import read_contents
from drift.report.files import FunnelStep
from drift.report.verdict import verdict_of
from drift.rundir import RunDir, load_run
from drift.store import Store
from gate_results import some_gate

MakeRun = Callable[..., Path]


def test_contents(make_run: MakeRun):
    contents = read_contents(make_run())
    assert [phase.name for phase in contents.phases] == ["base", "iteration 1"]
    lengths = contents.phases[1].lengths
    assert lengths
    assert (lengths.pairs, lengths.chosen, lengths.rejected) == (3, 20, 30)
    assert [step.margin for step in contents.phases[1].steps] == [0.1, 0.2, 0.3]
    assert contents.funnel
    assert contents.funnel.steps[0] == FunnelStep(
        name="Name the capital of Peru as JSON.", count=9, note=contents.funnel.steps[0].note
    )
    assert contents.labels
    assert [(row.labeller, row.sat, row.dsat) for row in contents.labels.counts] == [
        ("embedded", 0, 1),
        ("rating", 1, 0),
    ]
    assert contents.labels.subtypes == (("reformulate", 1),)
    shown = [pair for group in contents.examples for pair in group.comparisons]
    assert [(pair.before.utility, pair.after.utility) for pair in shown] == [(0.55, 0.75)]


@pytest.mark.parametrize(("kept", "name", "utility"), [(1, "iteration 1", 0.75), (2, "iteration 2", 0.65)])
def test_the_headline_and_the_samples_are_those_of_the_kept_policy(
    make_run: MakeRun, kept: int, name: str, utility: float
):
    contents = read_contents(make_run(kept=kept))
    measured = verdict_of(contents).measured
    assert measured
    assert (measured.last.name, measured.after.value) == (name, utility)
    assert contents.examples[0].comparisons[0].after.utility == utility


@pytest.mark.parametrize("disliked", [True, False])
def test_what_was_forgotten_since_is_not_shown(make_run: MakeRun, tmp_path: Path, disliked: bool):
    """Neither as a disliked reply nor among the answers to held-out requests."""
    store = Store(tmp_path / "store")
    talk = (Message("user", "Name the capital of Peru as JSON."), Message("assistant", "It is Lima."))
    store.add([Conversation(name, "test", name, talk, "train") for name in ("c1", "held out")])
    run = make_run(config=f"store: {store.path}\n")
    prompt = (ChatMessage("user", talk[0].content),)
    liked = next(read_jsonl(run / "iteration-1/pairs.jsonl", PreferencePair))
    write_jsonl(run / "data/heldout.jsonl", [PromptItem("p2", "held out" if disliked else "d", 1, prompt, "test")])
    liked = replace(liked, rejected=(), conversation_id="e" if disliked else "held out", prompt=prompt)
    write_jsonl(run / "data/heldout_liked.jsonl", [liked])
    page = write_report(run).read_text("utf-8")
    assert "I said JSON" in page
    assert "Lima 0.55" in page
    store.forget(conversation="c1")
    contents = read_contents(run)
    assert (contents.disliked, len(contents.examples)) == ((), 1)
    store.forget(conversation="held out")
    assert read_contents(run).examples == ()
    page = write_report(run).read_text("utf-8")
    assert "I said JSON" not in page
    assert "Lima 0.55" not in page


def test_the_kept_policy_comes_before_the_latest(make_run: MakeRun):
    run = make_run()
    assert read_contents(run).model == run / "iteration-1/policy"
    (run / "policy").mkdir()
    assert read_contents(run).model == run / "policy"


def test_files_of_another_config_are_not_reported(make_run: MakeRun):
    path = make_run()
    with RunDir.open(path, "name: shorter\n", 42):
        pass
    contents = read_contents(path)
    assert (contents.phases, contents.disliked, contents.labels, contents.model) == ((), (), None, None)


def test_a_verdict_on_another_policy_is_left_out_and_a_note_says_so(make_run: MakeRun):
    run = make_run(kept=1)
    gate = some_gate().model_copy(update={"policy_hash": load_run(run).policy_hash})
    (run / "gate.json").write_text(gate.model_dump_json())
    assert isinstance(read_contents(make_run(kept=1)).gate, GateResult)  # the same command again, the same policy
    with RunDir.open(run, "name: test\n", 42) as redone:
        redone.stage("policy", another_policy)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        assert read_contents(run).gate is None
    assert notes == [
        f"{run}/gate.json: left out, as it is not about the policy that the run has now. Run `drift gate` on it again"
    ]


def another_policy(out: Path) -> Counts:
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"another")
    return {"iteration": 1}
