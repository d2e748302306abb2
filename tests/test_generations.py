"""Chains of runs: a generation learns from what came since the one before, and from a share of what is older."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from drift.cli import app
from drift.config import Config, dump_config, parse_config
from drift.errors import ConfigError, DataError, PrerequisiteError
from drift.generations import Parent, open_parent, successor_of
from drift.lineage import forgotten_in, trace
from drift.progress import listening
from drift.records import Conversation, Counts, Message, PreferencePair, PromptItem, ReadMark, read_jsonl
from drift.report.contents import read_contents
from drift.report.verdict import generations_compared
from drift.run import GenerationSummary, RunSummary, run_config
from drift.rundir import RunDir, list_runs, load_run
from drift.rundir.chain import ancestors, descendants, link_of
from drift.store import Store

STAGE = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}


def complaint(number: int, more: int = 0) -> dict:
    """A chat whose first reply was disliked; `more` disliked replies follow it."""
    messages = [{"role": "user", "content": f"Please add {number} and 2."}]
    for turn in range(1 + more):
        messages += [
            {"role": "assistant", "content": f"{number}2{turn}", "feedback": -1},
            {"role": "user", "content": f"No, I meant {number} + 2, not {turn}."},
        ]
    return {"id": f"chat-{number}", "user": f"u{number % 5}", "model": "bot", "messages": messages}


class Chain:
    """Runs in one folder, over one store that grows."""

    def __init__(self, folder: Path, policy: Path) -> None:
        self.folder = folder
        self.policy = policy

    def config(self, rows: list[dict], **changes) -> Config:
        logs = self.folder / "logs.jsonl"
        logs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        tree = {
            "name": "chain",
            "logs": [str(logs)] if rows else [],
            "store": str(self.folder / "store"),
            "iterations": 1,
            "policy": {"model": str(self.policy)},
            "sampling": {"max_new_tokens": 4, "max_prompt_length": 512},
            "training": STAGE,
            "warm_start": {**STAGE, "epochs": 0},
            "evaluation": {"max_prompts": 4},
            "stop": {"rule": "none"},
        }
        return parse_config({**tree, **changes}, "test")

    def run(self, name: str, rows: list[dict], **changes) -> RunSummary:
        return run_config(self.config(rows, **changes), self.folder / "runs" / name)

    def after(self, before: str, name: str, rows: list[dict], **changes) -> GenerationSummary:
        done = self.run(name, rows, **{"from": str(self.folder / "runs" / before)}, **changes)
        assert isinstance(done, GenerationSummary)
        return done


@pytest.fixture
def chain(tmp_path, tiny_policy) -> Chain:
    return Chain(tmp_path, tiny_policy)


def conversations(file: Path, row: type = PromptItem) -> set[str]:
    return {each.conversation_id for each in read_jsonl(file, row)}


@pytest.mark.slow
def test_three_generations(chain):
    """One chain, from the first run to a user who wants to be forgotten."""
    rows = [complaint(n) for n in range(40)]
    chain.run("1", rows[:16])
    second = chain.after("1", "2", rows[:28])
    assert (second.did, second.generation, second.new_conversations) == ("trained", 2, 12)
    again = chain.after("1", "2", rows)
    assert (again.did, again.run) == ("finished before", second.run)  # not redone, though logs grew since
    first = chain.run("1", rows[:16])
    assert isinstance(first, GenerationSummary)
    assert (first.did, first.message.rpartition(" ")[2]) == ("finished before", second.run)
    with pytest.raises(ConfigError, match=r"runs/1: finished with other settings.*runs/2 continues from it"):
        chain.run("1", rows[:16], seed=7)
    third = chain.after("2", "3", [complaint(0, more=1), *rows[1:]])
    assert (third.generation, third.new_conversations) == (3, 13)  # 12 came, and the first has grown
    runs = [load_run(chain.folder / "runs" / name) for name in "123"]

    # each starts where the one before ended, learns what came since, and replays older ones
    base, first, policy = (
        next(s for s in runs[1].stages if s.name == f"{name}/evaluation.json").inputs["policy"].value
        for name in ("generation-0", "base", "iteration-1")
    )
    assert (base, first) == (str(chain.policy.absolute()), str((runs[0].path / "policy").absolute()))
    assert policy == "iteration-1/policy"
    read = [conversations(run.path / "data/prompts.jsonl") for run in runs]
    prompts = [next(s.counts for s in run.stages if s.name == "data/prompts.jsonl") for run in runs]
    counts = [{name: int(count or 0) for name, count in each.items()} for each in prompts]
    assert counts[0]["rows"] == len(read[0])
    assert counts[1]["new"] + counts[1]["replayed"] == counts[1]["rows"]
    assert counts[1]["replayed"] == round(counts[1]["new"] / 3) == len(read[1] & read[0])
    grown = Store(chain.folder / "store").by_source_id("chat-0")
    if (of_first := next(grown)).split == "train":
        places = [p.reply_index for p in read_jsonl(runs[2].path / "data/prompts.jsonl", PromptItem)
                  if p.conversation_id == of_first.conversation_id]  # fmt: skip
        assert 3 in places

    # held out once, held out for ever; and every complaint of the store is accounted for
    held = [conversations(run.path / "data/heldout.jsonl") for run in runs]
    assert held[0] <= held[1] <= held[2]
    assert not held[2] & set.union(*read)
    totals = counts[2]
    left = sum(n for name, n in totals.items() if name.startswith("dropped."))
    in_train = sum(len(labels) for _, labels in Store(chain.folder / "store").labelled("train"))
    assert totals["rows"] + left == in_train

    # the chain as people see it
    shown = CliRunner().invoke(app, ["runs", "--root", str(chain.folder / "runs"), "--json"])
    listed = json.loads(shown.stdout)
    row = listed[str(runs[2].path)]
    assert (row["generation"], row["base"], row["conversations"]) == (3, str(runs[1].path), 13)
    assert row["pairs"] == len(list(read_jsonl(runs[2].path / "iteration-1/pairs.jsonl", PreferencePair)))
    assert row["verdict"]
    contents = read_contents(runs[2].path)
    assert [phase.name for phase in contents.phases][:2] == ["generation 2", "warm start"]
    against = [change.first.name for change in generations_compared(contents)]
    assert against in (["generation 2", "base"], [])  # a tiny world may hold out no complaint
    page = (runs[2].path / "report.html").read_text()
    assert "This run is generation 3 of a chain." in page

    # from a pair to every generation that learned it, forwards and backwards
    pair = next(iter(read_jsonl(runs[0].path / "iteration-1/pairs.jsonl", PreferencePair)))
    forward = trace(runs[0].path, pair.pair_id).generations
    assert [(g.generation, g.policies) for g in forward] == [(k, ("iteration-1/policy", "policy")) for k in (2, 3)]
    replayed = next(p for p in read_jsonl(runs[1].path / "iteration-1/pairs.jsonl", PreferencePair)
                    if p.conversation_id in read[0])  # fmt: skip
    backward = trace(runs[1].path, replayed.pair_id).generations
    assert [g.generation for g in backward] == [1, 3]
    assert len(backward[0].pairs) == 1

    # nothing came: one line, no folder; a run of the chain is missing: what it learned is still known
    nothing = chain.after("3", "4", rows)
    assert (nothing.did, nothing.policy, nothing.counts) == ("nothing new", str(runs[2].path / "policy"), {})
    assert not (chain.folder / "runs/4").exists()
    calm = [{"id": "calm", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}]
    nothing = chain.after("3", "4", calm)
    assert (nothing.did, nothing.new_conversations, (chain.folder / "runs/4").exists()) == ("nothing new", 1, False)
    store = Store(chain.folder / "store")
    store.forget(conversation=pair.conversation_id)
    marked = forgotten_in(list_runs(chain.folder / "runs"))
    assert set(marked) == {run.path for run in runs}
    shutil.rmtree(runs[0].path)
    marked = forgotten_in(list_runs(chain.folder / "runs"))
    assert set(marked) == {run.path for run in runs[1:]}
    assert link_of(load_run(runs[1].path)).base == f"{runs[0].path} (missing)"


@pytest.mark.slow
def test_a_generation_whose_report_is_missing_gets_it_from_the_same_command(chain, monkeypatch):
    """It was killed, or a file that the report reads was damaged, when it was done. Nothing is trained again."""
    chain.run("1", [complaint(n) for n in range(12)])
    rows, run, damaged = [complaint(n) for n in range(24)], chain.folder / "runs/2", chain.folder / "store/live.json"
    damaged.write_text("{")
    with pytest.raises(DataError, match=r"live\.json"):
        chain.after("1", "2", rows)
    policy = (run / "policy/model.safetensors").stat()
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        assert chain.after("1", "2", rows).did == "finished before"
    assert any(note.startswith(f"{run}: its report cannot be written: {damaged}") for note in notes)
    damaged.unlink()

    def kill(_: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("drift.run.write_report", kill)
        with pytest.raises(KeyboardInterrupt):
            chain.after("1", "2", rows)
    assert (load_run(run).state.state, (run / "report.html").exists()) == ("done", False)
    again = chain.after("1", "2", [*rows, complaint(24)])
    state = load_run(run).state
    assert (again.did, state.generation, len(state.read)) == ("finished before", 2, 2)
    assert state.verdict
    assert state.verdict in Path(again.report).read_text("utf-8")
    assert "base_finished" in state.headline
    assert (run / "policy/model.safetensors").stat() == policy


@pytest.fixture
def parent(tmp_path) -> Path:
    """A finished run of the first generation, as far as the next one looks at it, and its store with two chats."""
    store = Store(tmp_path / "store")
    said = (Message("user", "?"), Message("assistant", "!"))
    store.add(Conversation(name, "test", name, said, "train") for name in "ab")
    config = f"store: {store.path}\npolicy: {{model: embedded}}\nevaluation: {{split: hash}}\n"
    with RunDir.open(tmp_path / "runs/1", config, 1) as run:
        run.pin_reading(1, store.store_id(), (ReadMark(store.read_up_to(), 2),))
        run.stage("policy", keep)
    return tmp_path / "runs/1"


def keep(out: Path) -> Counts:
    out.mkdir()
    (out / "config.json").write_text("{}")
    return {"iteration": 0}


def no_pairs(out: Path) -> Counts:
    out.touch()
    return {"rows": 0}


def opened(parent: Path, **changes) -> Parent | None:
    return open_parent(parse_config({"from": str(parent), **changes}, "test"))


def test_a_finished_run_is_fit_to_build_on(parent, tmp_path):
    assert open_parent(parse_config({}, "test")) is None
    found = opened(parent)
    assert found is not None
    assert (found.generation, found.read, found.policy) == (1, 1, parent / "policy")
    moved = (tmp_path / "store").rename(tmp_path / "elsewhere")
    again = opened(parent, store=str(moved))
    assert again is not None
    assert again.store == moved


def lose_all(parent: Path) -> None:
    shutil.rmtree(parent.parents[1] / "store")


def lose_some(parent: Path) -> None:
    """An older copy of the store: the run has read what is no longer in it."""
    with RunDir.open(parent, (parent / "config.yaml").read_text(), 1) as run:
        run.pin_reading(1, Store(parent.parents[1] / "store").store_id(), (ReadMark(99, 2),))
        run.stage("policy", keep)


def lose_files(parent: Path) -> None:
    for file in (parent.parents[1] / "store/conversations").iterdir():
        file.unlink()


def other_store(parent: Path) -> None:
    lose_all(parent)
    said = (Message("user", "?"), Message("assistant", "!"))
    Store(parent.parents[1] / "store").add([Conversation("a", "test", "a", said, "train")])


def fail(parent: Path) -> None:
    with pytest.raises(KeyError), RunDir.open(parent, (parent / "config.yaml").read_text(), 1):
        raise KeyError


@pytest.mark.parametrize(
    ("harm", "changes", "error", "message"),
    [
        (shutil.rmtree, {}, DataError, r"from: .*runs/1: no such run. Put its folder back, name another run"),
        (fail, {}, DataError, r"runs/1: this run is not finished \(state: failed\). Run its own command again"),
        (
            lose_all,
            {},
            DataError,
            r"runs/1: its store is gone \(.*store\). Put it back, or name where it is: store=DIR",
        ),
        (lose_some, {}, DataError, r"store: this store has lost conversations since .*runs/1 read it"),
        (lose_files, {}, DataError, r"store: cannot read the store"),
        (other_store, {}, DataError, r"store: not the store that .*runs/1 has read"),
        (None, {"policy": {"model": "embedded-2"}}, ConfigError, r"policy.model: embedded-2, but .* has embedded, and"),
        (None, {"evaluation": {"split": "time"}}, ConfigError, r"evaluation.split: time, but .*runs/1 has hash, and"),
    ],
)
def test_a_chain_that_cannot_go_on_says_why_in_one_line(parent, harm, changes, error, message):
    if harm:
        harm(parent)
    with pytest.raises(error, match=message) as told:
        opened(parent, **changes)
    assert "\n" not in str(told.value)


def test_an_adapter_whose_base_changed_is_refused(parent, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_text("weights")
    (parent / "policy/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    with RunDir.open(parent, (parent / "config.yaml").read_text(), 1) as run:
        run.pin_reading(1, Store(tmp_path / "store").store_id(), (ReadMark(1, 2),))
        run.pin(base=run.fingerprint(base))
        shutil.copy(parent / "policy/adapter_config.json", tmp_path / "kept")
        run.stage("policy", keep)
    shutil.copy(tmp_path / "kept", parent / "policy/adapter_config.json")
    assert opened(parent) is not None
    (base / "model.safetensors").write_text("other weights")
    with pytest.raises(PrerequisiteError, match=r"this adapter was trained on .*base, whose files have changed since"):
        opened(parent)
    shutil.rmtree(base)
    with pytest.raises(PrerequisiteError, match=r"the adapter's base model .*base is gone"):
        opened(parent)


def test_a_run_of_an_earlier_version_has_read_nothing_that_is_known(parent):
    state = json.loads((parent / "run.json").read_text())
    for name in ("generation", "store_id", "read", "base", "verdict"):
        del state[name]
    (parent / "run.json").write_text(json.dumps(state))
    found = opened(parent)
    assert found is not None
    assert (found.generation, found.read) == (1, 0)
    link = link_of(found.view)
    assert (link.generation, link.base, link.conversations, link.verdict) == (1, "embedded", None, None)


def test_a_finished_generation_without_a_report_gets_it(parent, tmp_path):
    cfg = parse_config({"store": str(tmp_path / "store"), "from": str(parent)}, "test")
    with RunDir.open(tmp_path / "runs/2", dump_config(cfg), 1) as run:
        run.pin_reading(2, "s", (ReadMark(1, 2), ReadMark(1, 2)))
        run.stage("policy", keep)
        run.pin(verdict="No clear change")
    for _ in range(2):
        done = run_config(cfg, tmp_path / "runs/2")
        assert isinstance(done, GenerationSummary)
        assert (done.did, done.generation) == ("finished before", 2)
        assert "<html" in Path(done.report).read_text("utf-8")
        assert load_run(tmp_path / "runs/2").state.verdict == "No clear change"


def test_a_run_does_not_start_from_itself(parent):
    cfg = parse_config({"from": str(parent)}, "test")
    with pytest.raises(ConfigError, match=r"from: .*runs/1: a run cannot start from itself"):
        run_config(cfg, parent)


def test_the_config_without_a_chain_is_written_as_before():
    """So default folders of runs, which are named by it, stay where they are."""
    assert not {"from", "parent", "generation"} & parse_config({}, "test").model_dump().keys()
    chained = parse_config({"from": "runs/1", "generation": {"replay": 0.5}}, "test")
    assert parse_config(yaml.safe_load(dump_config(chained)), "test") == chained
    with pytest.raises(ConfigError, match=r"generation.replay: .*less than 1, not 1"):
        parse_config({"generation": {"replay": 1}}, "test")
    with pytest.raises(ConfigError, match=r"form: unknown setting; did you mean 'from'"):
        parse_config({"form": "runs/1"}, "test")


def test_nothing_new_is_one_line_and_leaves_nothing(parent, tmp_path):
    """It needs no torch either: the command may run every hour."""
    config = tmp_path / "chain.yaml"
    config.write_text(f"store: {tmp_path / 'store'}\n")
    command = ["run", str(config), "--from", str(parent), "--out", str(tmp_path / "runs/2"), "--json"]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, len(done.stderr.splitlines())) == (0, 1), done.output
    assert done.stderr.startswith(f"nothing new: no conversation came or changed since {parent} read ")
    told = json.loads(done.stdout)
    assert (told["did"], told["generation"], told["run"], told["new_conversations"]) == (
        "nothing new", 2, str(parent), 0,
    )  # fmt: skip
    assert [run.path for run in list_runs(tmp_path / "runs")] == [parent]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"1"}


def test_the_chain_among_the_runs(parent, tmp_path):
    """`drift runs` shows it, also where a run is missing."""
    with RunDir.open(tmp_path / "runs/2", f"from: {parent}\n", 1) as run:
        run.pin_reading(2, "s", (ReadMark(1, 2), ReadMark(4, 7)))
        run.pin(verdict="No clear change")
    second = load_run(tmp_path / "runs/2")
    link = link_of(second)
    assert (link.generation, link.base, link.conversations, link.pairs, link.verdict) == (
        2, str(parent), 7, None, "No clear change",
    )  # fmt: skip
    assert [run.path for run in ancestors(second)] == [parent]
    assert [run.path for run in descendants(load_run(parent))] == [tmp_path / "runs/2"]
    both = (tmp_path / "runs").rename(tmp_path / "moved")  # together: the run before is found beside this one
    assert [run.path for run in ancestors(load_run(both / "2"))] == [both / "1"]
    shutil.rmtree(both / "1")
    assert (ancestors(load_run(both / "2")), link_of(load_run(both / "2")).base) == ([], f"{parent} (missing)")


def test_a_generation_that_learned_nothing_yet_does_not_hold_the_one_before(parent, tmp_path):
    """One that failed at its start would lock the run that it names, and could not be named itself."""
    changed = parse_config({"seed": 7}, "test")
    with RunDir.open(tmp_path / "runs/2", f"from: {parent}\n", 1) as run:
        assert successor_of(parent, changed) is None
        run.folder("iteration-1").stage("pairs.jsonl", no_pairs)
    with pytest.raises(ConfigError, match=r"runs/1: finished with other settings.*runs/2 continues from it"):
        successor_of(parent, changed)
