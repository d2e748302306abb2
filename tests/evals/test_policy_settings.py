"""How an evaluation loads a model that belongs to a run (as the run did, wherever in the run it lies), and how far its
replies are."""

from pathlib import Path

import pytest

from drift.config import SamplingSettings
from drift.evals.replies import EvalRequest, ReplySettings, make_replies, policy_settings
from drift.progress import listening
from drift.records import ChatMessage
from drift.rundir import RunDir, layout


def make_run(path: Path, config: str) -> Path:
    with RunDir.open(path, config, 0) as run:
        run.pin(date="2026-11-28")
    for inside in (layout.POLICY, f"{layout.iteration(2)}/{layout.POLICY}", layout.BASE_MODEL):
        (path / inside).mkdir(parents=True)
    return path


@pytest.mark.parametrize("inside", [".", "policy", "iteration-2/policy", "base/model"])
def test_the_template_is_used_as_in_the_run(tmp_path, inside):
    config = "policy:\n  thinking: strip\n  template_arguments: {level: 1}\n"
    used = policy_settings(str(make_run(tmp_path / "run", config) / inside), "bfloat16")
    assert (used.dtype, used.date, used.thinking) == ("bfloat16", "2026-11-28", "strip")
    assert used.template_arguments == {"level": 1}


def test_a_model_by_name_has_nothing_of_the_run_that_is_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(make_run(tmp_path / "run", "policy:\n  thinking: strip\n"))
    assert policy_settings("embedded", "float32").thinking == "off"


def test_a_policy_that_was_trained_in_4_bits_is_measured_unrounded_and_a_note_says_so(tmp_path):
    run = make_run(tmp_path / "run", "policy:\n  lora:\n    quantize: 4bit\n")
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        for _ in range(2):
            assert policy_settings(str(run / "policy"), "float32").lora is None
    assert len(notes) == 1
    assert "on weights in 4 bits (policy.lora.quantize). Here the weights are not rounded" in notes[0]


def test_the_progress_of_the_replies_is_that_of_all_requests(tmp_path, tiny_policy):
    """They are sampled 32 at a time; one of them does not fit."""
    requests = [EvalRequest(str(n), (ChatMessage("user", "x" * (900 if n == 3 else 1 + n)),)) for n in range(40)]
    settings = ReplySettings(SamplingSettings(max_new_tokens=8, max_prompt_length=100), tmp_path)
    reports: list[tuple[int, int, int]] = []
    with listening(lambda *report: reports.append(report)):
        replies = make_replies(str(tiny_policy), requests, settings)
    assert len(replies.by_item) == 39
    done, totals, tokens = zip(*reports, strict=True)
    assert set(totals) == {40}
    assert list(done) == sorted(done)
    assert done[-1] == 40
    assert list(tokens) == sorted(tokens)
    assert tokens[-1] > 32
