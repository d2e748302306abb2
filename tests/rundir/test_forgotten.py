"""Runs and models that learned from what was forgotten since are marked, and so are those that start from them."""

from pathlib import Path

import pytest

from drift.records import ChatMessage, Conversation, Message, PreferencePair, write_jsonl
from drift.rundir import RunDir, list_runs
from drift.rundir.lineage import Marked, forgotten_in
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
        tmp_path / "runs" / "1": Marked(1, ("iteration-2/policy", "policy"), ("iteration-2/pairs.jsonl",)),
        tmp_path / "runs" / "3": Marked(0, ("iteration-1/policy", "policy")),
    }
    assert forgotten_in(runs, Store(tmp_path / "other")) == {}


def test_a_run_that_holds_the_text_but_did_not_learn_from_it_is_marked_too(tmp_path, store):
    run(tmp_path / "runs" / "1", store.path, ("a",))
    run(tmp_path / "runs" / "2", store.path, ("c",), base=str(tmp_path / "runs" / "1" / "policy"))
    with RunDir.open(tmp_path / "runs" / "1", f"store: {store.path}\npolicy: {{model: embedded}}\n", 1) as made:
        made.stage("data/prompts.jsonl", pairs, "b")
    store.forget(conversation="b")
    held = Marked(0, (), ("data/prompts.jsonl",))
    assert forgotten_in(list_runs(tmp_path / "runs")) == {tmp_path / "runs" / "1": held}
