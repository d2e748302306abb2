"""Runs and models that learned from what was forgotten since are marked, and so are those that start from them."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drift.cli import app
from drift.config import Config, dump_config
from drift.errors import ConfigError
from drift.evaluation.results import Evaluation, SampleResult, write_result
from drift.generations import successor_of
from drift.lineage import ForgottenTraces, forgotten_in
from drift.records import ChatMessage, Completion, Conversation, Message, PreferencePair, write_jsonl
from drift.run import by_real_name
from drift.rundir import RunDir, list_runs, load_run
from drift.rundir.chain import ancestors, descendants, link_of, note_child
from drift.scoring.feedback_reward import LearnedTurn
from drift.store import Store


def pairs(out: Path, conversation: str) -> dict[str, int]:
    said = (ChatMessage("assistant", "x"),)
    pair = PreferencePair("p", "q", conversation, 1, "drift", 1, "w", (ChatMessage("user", "?"),), said, said)
    return {"rows": write_jsonl(out, [pair])}


def policy(out: Path, pairs: Path) -> dict[str, int]:
    out.write_text("weights")
    return {"iteration": 2}


def run(path: Path, store: Path, conversations: tuple[str, ...], base: str = "embedded") -> None:
    with RunDir.open(path, f"store: {store}\npolicy: {{model: {base}}}\n", 1) as made:
        for k, conversation in enumerate(conversations, 1):
            made.iteration(k).stage("policy", policy, made.iteration(k).stage("pairs.jsonl", pairs, conversation))
        made.stage("policy", policy, made.path / f"iteration-{len(conversations)}" / "pairs.jsonl")


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "store")
    talk = (Message("user", "?"), Message("assistant", "!"))
    store.add([Conversation(name, "test", name, talk, "train") for name in ("a", "b", "c")])
    return store


def test_runs_are_marked_from_the_iteration_on_that_learned_it(tmp_path, store):
    run(tmp_path / "runs" / "1", store.path, ("a", "b"))
    run(tmp_path / "runs" / "2", store.path, ("a", "c"))
    run(tmp_path / "runs" / "3", store.path, ("a",), base=str(tmp_path / "runs" / "1" / "policy"))
    runs = list_runs(tmp_path / "runs")
    assert forgotten_in(runs) == {}
    store.forget(conversation="b")
    assert forgotten_in(runs) == {
        tmp_path / "runs" / "1": ForgottenTraces(1, ("iteration-2/policy", "policy"), ("iteration-2/pairs.jsonl",)),
        tmp_path / "runs" / "3": ForgottenTraces(0, ("iteration-1/policy", "policy")),
    }
    assert forgotten_in(runs, Store(tmp_path / "other")) == {}


def completions(out: Path) -> dict[str, int]:
    made = (Completion(name, 1, 0, True, "x", "stop", 1, "w", "test") for name in ("q", "other"))
    return {"rows": write_jsonl(out, made)}


def evaluation(out: Path, asked: str) -> dict[str, int]:
    shown = SampleResult(prompt=(ChatMessage("user", asked),), completion="x")
    write_result(out, Evaluation(samples=(shown,)))
    return {}


def test_every_file_that_shows_it_is_named_also_while_it_is_written(tmp_path, store):
    run(tmp_path / "runs" / "1", store.path, ("b",))
    with RunDir.open(tmp_path / "runs" / "1", f"store: {store.path}\n", 1) as made:
        for number, asked in ((1, "?"), (2, "what else?")):
            made.iteration(number).stage("completions.jsonl", completions)
            made.iteration(number).stage("evaluation.json", evaluation, asked)
    (tmp_path / "runs" / "1" / "report.html").write_text("quotes people")
    (tmp_path / "runs" / "1" / "metrics.jsonl").write_text('{"step": 1}\n{"ste')
    assert forgotten_in(list_runs(tmp_path / "runs")) == {}
    store.forget(conversation="b")
    assert forgotten_in(list_runs(tmp_path / "runs"))[tmp_path / "runs" / "1"].files == (
        "iteration-1/completions.jsonl",
        "iteration-1/evaluation.json",
        "iteration-1/pairs.jsonl",
        "iteration-2/completions.jsonl",
        "report.html",
    )


def test_a_run_that_holds_the_text_but_did_not_learn_from_it_is_marked_too(tmp_path, store):
    run(tmp_path / "runs" / "1", store.path, ("a",))
    run(tmp_path / "runs" / "2", store.path, ("c",), base=str(tmp_path / "runs" / "1" / "policy"))
    with RunDir.open(tmp_path / "runs" / "1", f"store: {store.path}\npolicy: {{model: embedded}}\n", 1) as made:
        made.stage("data/prompts.jsonl", pairs, "b")
    store.forget(conversation="b")
    held = ForgottenTraces(0, (), ("data/prompts.jsonl",))
    assert forgotten_in(list_runs(tmp_path / "runs")) == {tmp_path / "runs" / "1": held}


def reward(out: Path, conversation: str) -> dict[str, int]:
    out.mkdir()
    (out / "model.safetensors").write_text("weights")
    return {"learned": write_jsonl(out / "turns.jsonl", [LearnedTurn(conversation, 1, True)])}


def test_a_reward_that_learned_from_it_is_marked_with_the_policies_that_it_chose_for(tmp_path, store):
    path = tmp_path / "runs" / "1"
    with RunDir.open(path, f"store: {store.path}\npolicy: {{model: embedded}}\n", 1) as made:
        made.iteration(2).stage("feedback-reward", reward, "b")
        for k, conversation in enumerate("ac", 1):
            made.iteration(k).stage("policy", policy, made.iteration(k).stage("pairs.jsonl", pairs, conversation))
        made.stage("policy", policy, made.path / "iteration-2" / "pairs.jsonl")
    store.forget(conversation="b")
    marked = ("iteration-2/feedback-reward", "iteration-2/policy", "policy")
    files = ("iteration-2/feedback-reward/turns.jsonl",)
    assert forgotten_in(list_runs(tmp_path / "runs")) == {path: ForgottenTraces(0, marked, files)}


def test_forget_names_every_run_at_any_depth_and_the_damaged_ones(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(Path("runs/team/1"), store.path, ("b",))
    run(Path("runs/2"), store.path, ("a",), base="runs/team/1/policy")
    Path("runs/latest").symlink_to("2")
    run(Path("runs/3"), store.path, ("a",))
    Path("runs/3/run.json").write_text("{")
    answer = CliRunner().invoke(app, ["forget", "--store", "store", "--conversation", "b", "--runs", "rusn"])
    assert "--runs rusn: no such folder; nothing was removed" in str(answer.exception)
    assert len(list(store.conversations())) == 3
    answer = CliRunner().invoke(app, ["forget", "--store", "store", "--conversation", "b", "--json"])
    assert "runs/3/run.json: damaged" in str(answer.exception)
    assert set(json.loads(answer.stdout)["runs"]) == {"runs/team/1", "runs/2"}
    assert "rm -r runs/team/1 runs/2" in answer.stderr
    assert len(list(store.conversations())) == 2


def test_a_link_to_the_latest_run_loses_no_generation(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    latest = Path("runs/latest")
    for name in "123":
        cfg = Config.model_validate({"from": str(latest)} if latest.exists() else {})
        with RunDir.open(Path("runs") / name, dump_config(by_real_name(cfg)), 1):
            pass
        latest.unlink(missing_ok=True)
        latest.symlink_to(name)
    runs = list_runs(Path("runs"))
    assert [link_of(each).base for each in runs][1:] == ["runs/1", "runs/2"]
    assert [each.path.name for each in ancestors(runs[2])] == ["2", "1"]
    assert [each.path.name for each in descendants(runs[0])] == ["2", "3"]


def test_a_generation_in_another_folder_is_noted_in_the_one_before(tmp_path, store, monkeypatch):
    """Nothing else would keep the run that it starts from, and `drift trace` would not show it."""
    monkeypatch.chdir(tmp_path)
    places = [Path(place) for place in ("runs/1", "elsewhere/2", "elsewhere/3", "third/4", "runs/5")]
    for before, place in zip([None, *places], places, strict=False):
        config = f"store: {store.path}\n" + (f"from: {before}\n" if before else "")
        with RunDir.open(place, config, 1) as made:
            made.pin_reading(places.index(place) + 1, "s", ())
            for _ in range(2 if before else 0):  # the command that resumes it notes it once
                note_child(load_run(Path(str(before))), place)
            made.iteration(1).stage("policy", policy, made.iteration(1).stage("pairs.jsonl", pairs, "a"))
            made.stage("policy", policy, made.path / "iteration-1" / "pairs.jsonl")
    assert [each.path.name for each in descendants(load_run(places[0]))] == ["2", "3", "4", "5"]
    assert [each.path.name for each in descendants(load_run(places[2]))] == ["4", "5"]
    assert len((places[0] / "children.jsonl").read_text().splitlines()) == 1
    assert not (places[1] / "children.jsonl").exists()  # the next one is in the same folder
    with pytest.raises(ConfigError, match=r"runs/1: finished with other settings.*runs/5 continues from it"):
        successor_of(places[0], Config.model_validate({"seed": 7}))
    monkeypatch.chdir(tmp_path / "third")  # `from` is relative to another folder
    assert next(each.path.name for each in descendants(load_run(tmp_path / places[0]))) == "2"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(places[0], "copy")  # nobody continued from the copy
    assert descendants(load_run(Path("copy"))) == []
    shutil.rmtree(places[1])  # gone, or moved: nothing leads on from it
    assert [each.path.name for each in descendants(load_run(places[0]))] == []
