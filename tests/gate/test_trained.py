"""What the models' runs were trained on is not asked; a chain with a missing run is refused."""

from pathlib import Path

import pytest

from drift.errors import DataError
from drift.gate.plan import run_of, trained_requests
from drift.records import ChatMessage, Counts, PreferencePair, PromptItem, write_jsonl
from drift.rundir import RunDir, layout


def write_pairs(out: Path, request: str) -> Counts:
    sides = (ChatMessage("assistant", "a"),), (ChatMessage("assistant", "b"),)
    prompt = (ChatMessage("system", "Be brief."), ChatMessage("user", request))
    return {"rows": write_jsonl(out, [PreferencePair("p", "p", "c", 1, "drift", 1, "", prompt, *sides)])}


def write_prompts(out: Path, request: str) -> Counts:
    return {"rows": write_jsonl(out, [PromptItem("p", "c", 1, (ChatMessage("user", request),), "train")])}


def make_run(path: Path, request: str, parent: Path | None = None, generation: int = 1) -> Path:
    with RunDir.open(path, "name: x\n" if parent is None else f"from: {parent}\n", 0) as run:
        run.pin_reading(generation, "s", ())
        run.stage(layout.PROMPTS, write_prompts, request=f"prompt of {request}")
        run.iteration(1).stage(layout.PAIRS, write_pairs, request=request)
    (path / layout.POLICY).mkdir()
    return path


def test_the_requests_of_a_chain(tmp_path):
    first = make_run(tmp_path / "1", "What is  2 + 2?")
    second = make_run(tmp_path / "2", "What is 3 + 3?", first, 2)
    both = {"what is 2 + 2?", "prompt of what is 2 + 2?", "what is 3 + 3?", "prompt of what is 3 + 3?"}
    assert trained_requests((str(second), "embedded")) == both
    assert trained_requests((str(second / layout.POLICY), "embedded")) == both
    assert trained_requests((str(first), "http://server/v1#m")) == {name for name in both if "2 + 2" in name}
    assert trained_requests(("embedded", "http://server/v1#m")) is None


def test_a_model_inside_of_a_run_belongs_to_it(tmp_path):
    run = make_run(tmp_path / "1", "a")
    for inside in (run, run / "policy", run / "iteration-1" / "policy"):
        assert run_of(str(inside)) == run
    assert run_of(str(tmp_path / "elsewhere")) is None


def test_a_missing_run_of_the_chain_is_one_error(tmp_path):
    second = make_run(tmp_path / "2", "a", tmp_path / "gone", 2)
    with pytest.raises(DataError, match="1 earlier run of its chain cannot be found, so what they were trained on"):
        trained_requests((str(second), "embedded"))
