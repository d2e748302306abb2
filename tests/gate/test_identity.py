"""Which model a gate measured: its weights with the way it is asked; and, of a run, the policy that it had then."""

import shutil
from pathlib import Path

import pytest

from drift.config import PolicySettings
from drift.evals.replies import EvalRequest, ReplySettings, make_replies, sampling_at
from drift.gate.guards import GUARDS
from drift.gate.plan import GateSettings
from drift.gate.results import GateResult
from drift.gate.run import run_gate
from drift.policy.model import load_policy
from drift.progress import listening
from drift.records import ChatMessage, Counts
from drift.report.contents import read_contents
from drift.rundir import RunDir


def gate(out: Path, new: Path, against: Path | str) -> GateResult:
    without = tuple(name for name in GUARDS if name != "form")
    settings = GateSettings(str(new), str(against), out, target="none", without=without, items=20)
    result = run_gate(settings, None, False, lambda line: None)
    assert result is not None
    return result


@pytest.fixture
def model(tmp_path: Path, tiny_policy: Path) -> Path:
    return shutil.copytree(tiny_policy, tmp_path / "model")


def be_brief(model: Path) -> None:
    """The template says one thing more; the weights stay as they are."""
    template = model / "chat_template.jinja"
    template.write_text(f"Please be brief. {template.read_text()}")


def test_the_same_weights_with_another_template_are_another_model(tmp_path: Path, model: Path, tiny_policy: Path):
    be_brief(model)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        result = gate(tmp_path / "out", model, tiny_policy)
    assert result.new_id != result.against_id
    assert [note for note in notes if "the same model" in note] == []
    with listening(lambda *_: None, notes.append):
        gate(tmp_path / "out", tiny_policy, tiny_policy)
    assert [note for note in notes if "the same model" in note]


def test_answers_of_an_edited_model_are_not_used_again(tmp_path: Path, model: Path):
    settings = ReplySettings(sampling_at(0.0, 4), tmp_path)
    requests = [EvalRequest("one", (ChatMessage("user", "hello"),))]
    for edits in range(2):
        make_replies(str(model), requests, settings)
        make_replies(str(model), requests, settings)
        assert len(list(tmp_path.glob("replies-*.jsonl"))) == edits + 1
        be_brief(model)


@pytest.mark.parametrize("change", ["date", "thinking", "arguments", "ends"])
def test_all_that_answers_depend_on_makes_another_model(model: Path, change: str):
    template = model / "chat_template.jinja"
    template.write_text(template.read_text() + "{% set today = strftime_now('%d') %}")
    before = load_policy(model, PolicySettings(date="2026-11-28"))
    settings = PolicySettings(date="2026-11-29" if change == "date" else "2026-11-28")
    if change == "thinking":
        settings = settings.model_copy(update={"thinking": "keep"})
    if change == "arguments":
        settings = settings.model_copy(update={"template_arguments": {"level": 1}})
    if change == "ends":
        (model / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    after = load_policy(model, settings)
    assert after.policy_id == before.policy_id
    assert after.answers_id != before.answers_id
    assert load_policy(model, settings).answers_id == after.answers_id


def keep(out: Path, source: Path) -> Counts:
    shutil.copytree(source, out)
    return {"iteration": 0}


def test_the_report_of_a_run_shows_the_gate_of_its_present_policy(tmp_path: Path, model: Path, tiny_policy: Path):
    run = tmp_path / "run"
    for edits in range(2):
        with RunDir.open(run, "name: test\n", 1) as opened:
            opened.stage("policy", keep, model)
        if not edits:
            result = gate(tmp_path / "out", run, tiny_policy)
        shown = read_contents(run).gate
        assert shown == (None if edits else result)
        be_brief(model)
