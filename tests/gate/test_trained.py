"""What the models' runs were trained on is not asked; a chain with a missing run is refused."""

import json
from pathlib import Path

import pytest

from drift.errors import ConfigError, DataError
from drift.gate.guards import GUARDS
from drift.gate.plan import GateSettings, plan_gate, trained_requests
from drift.records import ChatMessage, Counts, PreferencePair, PromptItem, TrainedReply, stable_hash, write_jsonl
from drift.rundir import RunDir, layout, run_of


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
        inside.mkdir(parents=True, exist_ok=True)
        assert run_of(str(inside)) == run
    assert run_of(str(tmp_path / "elsewhere")) is None


def test_a_missing_run_of_the_chain_is_one_error(tmp_path):
    second = make_run(tmp_path / "2", "a", tmp_path / "gone", 2)
    with pytest.raises(DataError, match="1 earlier run of its chain cannot be found, so what they were trained on"):
        trained_requests((str(second), "embedded"))


def test_items_of_a_suite_that_were_trained_on_are_left_out_and_counted(tmp_path):
    run = make_run(tmp_path / "1", "What is  2 + 2?")
    rows = [{"prompt": "what is 2 + 2?", "number": 4}, {"prompt": "What is 9 + 9?", "number": 18}]
    suite = tmp_path / "sums.jsonl"
    suite.write_text("\n".join(map(json.dumps, rows)))
    own = {"target": "none", "without": tuple(GUARDS), "suites": (str(suite),)}
    settings = GateSettings(str(run), "embedded", tmp_path / "o", **own)
    plan = plan_gate(settings, None)
    assert [item.request.messages[-1].content for item in plan.batches["sums"].items] == ["What is 9 + 9?"]
    assert plan.seen == 1
    suite.write_text(json.dumps(rows[0]))
    with pytest.raises(DataError, match=r"a model was trained on every item: use others, or --without sums"):
        plan_gate(settings, None)


def test_a_runs_store_that_is_gone_is_said_with_its_place(tmp_path):
    """The user named a store once, in the config; "name a store" alone would send them looking for another one."""
    with RunDir.open(tmp_path / "1", f"store: {tmp_path / 'gone'}\n", 0) as run:
        run.pin_reading(1, "s", ())
    without = tuple(name for name in GUARDS if name != "kl")
    settings = GateSettings(str(tmp_path / "1"), "embedded", tmp_path / "o", target="none", without=without)
    with pytest.raises(ConfigError, match=f"the store of {tmp_path / '1'} is not at {tmp_path / 'gone'}. Put it back"):
        plan_gate(settings, None)


def test_a_gate_within_a_run_reads_what_earlier_generations_learned_from_the_runs_own_list(tmp_path):
    """Their folders may be gone. The list has hashes of whole prompts, which the guards' items are."""
    second = make_run(tmp_path / "2", "a", tmp_path / "gone", 2)
    prompt = (ChatMessage("user", "What is 9 + 9?"),)
    earlier = second / layout.EARLIER
    write_jsonl(earlier, [TrainedReply("p", "c", stable_hash(prompt), "hash", 1)])
    suite = tmp_path / "sums.jsonl"
    rows = [{"prompt": "What is 9 + 9?", "number": 18}, {"prompt": "What is 1 + 9?", "number": 10}]
    suite.write_text("\n".join(map(json.dumps, rows)))
    own = {"target": "none", "without": tuple(GUARDS), "suites": (str(suite),), "earlier": earlier}
    plan = plan_gate(GateSettings(str(second), str(second), tmp_path / "o", **own), None)
    assert [item.request.messages[-1].content for item in plan.batches["sums"].items] == ["What is 1 + 9?"]
    assert plan.seen == 1
