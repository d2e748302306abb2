"""What the report and the list of runs see of a run folder."""

import json
from pathlib import Path

import pytest

from command import drift
from drift.errors import DataError
from drift.progress import listening
from drift.rundir import RunDir, atomic_write, list_runs, load_run


def number(out: Path, k: int) -> dict[str, float]:
    out.write_text(str(k))
    return {"k": k, "share": float("nan")}


def make(path: Path, iterations: int) -> None:
    with RunDir.open(path, "name: test\n", 3) as run:
        run.pin(label_hash="abc")
        for k in range(1, iterations + 1):
            run.iteration(k).stage("evaluation.json", number, k)
        run.headline(utility=0.7, pairs=12)
        run.headline(utility=0.8)


def test_view(tmp_path: Path):
    make(tmp_path / "run", 2)
    view = load_run(tmp_path / "run")
    assert (view.config_yaml, view.iterations) == ("name: test\n", (1, 2))
    assert (view.state.state, view.state.seed, view.state.label_hash) == ("done", 3, "abc")
    assert view.state.headline == {"utility": 0.8, "pairs": 12}
    assert view.stages[0].counts == {"k": 1, "share": None}
    assert view.file("iteration-2/evaluation.json") == tmp_path / "run/iteration-2/evaluation.json"
    assert view.file("iteration-2/pairs.jsonl") is None


def test_what_a_longer_run_left_is_outdated(tmp_path: Path):
    make(tmp_path / "run", 3)
    make(tmp_path / "run", 1)
    view = load_run(tmp_path / "run")
    assert view.iterations == (1,)
    assert view.file("iteration-1/evaluation.json") is not None
    assert view.file("iteration-3/evaluation.json") is None


def test_list_runs(tmp_path: Path):
    assert list_runs(tmp_path / "none") == []
    make(tmp_path / "b", 1)
    make(tmp_path / "a", 1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "a/store").mkdir()
    (tmp_path / "a/store/manifest.json").write_text('{"generation": 3}')  # a store's own, and none of ours
    assert [run.path.name for run in list_runs(tmp_path)] == ["b", "a"]


def test_a_damaged_run_hides_no_other(tmp_path: Path):
    make(tmp_path / "b", 1)
    make(tmp_path / "a", 1)
    (tmp_path / "b/run.json").write_text("{")
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        assert [run.path.name for run in list_runs(tmp_path, skip_damaged=True)] == ["a"]
    assert "b/run.json: damaged" in notes[0]
    assert "Run the run's own command again" in notes[0]
    with pytest.raises(DataError, match="damaged"):  # what is to be forgotten may be in it
        list_runs(tmp_path)


def test_no_run_and_a_damaged_one_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="not a run"):
        load_run(tmp_path)
    make(tmp_path / "run", 1)
    (tmp_path / "run/iteration-1/manifest.json").write_text('{"stages": {"evaluation.json": ')
    with pytest.raises(DataError, match=r"manifest\.json: damaged") as refused:
        load_run(tmp_path / "run")
    assert "\n" not in str(refused.value)


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path):
    atomic_write(tmp_path / "a.json", b"old")
    atomic_write(tmp_path / "a.json", b"new")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.json": b"new"}


def test_the_list_says_at_which_stage_and_where_a_run_is_that_is_not_finished(tmp_path: Path):
    with RunDir.open(tmp_path / "runs" / "mine", "name: mine", 1) as run:
        run.pin(where="node-3, cluster 10.0.0.1:6379")
        run.stage("data/labels.jsonl", written)
        listed = drift("runs", "--root", tmp_path / "runs", "--json")
        (row,) = json.loads(listed.stdout.splitlines()[-1]).values()
        assert (row["state"], row["stage"]) == ("running", "data/labels.jsonl")
        assert row["where"] == "node-3, cluster 10.0.0.1:6379"
    (row,) = json.loads(drift("runs", "--root", tmp_path / "runs", "--json").stdout.splitlines()[-1]).values()
    assert (row["state"], "where" in row) == ("done", False)


def test_a_store_that_is_not_there_marks_no_run_in_silence(tmp_path: Path):
    listed = drift("runs", "--root", tmp_path, "--store", tmp_path / "misspelt")
    assert (listed.returncode, listed.stderr.count("\n")) == (1, 1)
    assert "misspelt: holds no conversations" in listed.stderr


def written(out: Path) -> dict[str, int]:
    out.write_text("{}")
    return {"rows": 1}


def test_each_run_is_listed_once_by_its_own_name(tmp_path: Path):
    make(tmp_path / "a", 1)
    make(tmp_path / "elsewhere" / "b", 1)
    (tmp_path / "runs" / "team").mkdir(parents=True)
    make(tmp_path / "runs" / "team" / "c", 1)
    (tmp_path / "runs" / "latest").symlink_to("team/c")
    (tmp_path / "runs" / "big").symlink_to(tmp_path / "elsewhere" / "b")
    (tmp_path / "runs" / "round").symlink_to(tmp_path / "runs")  # a circle
    by_name = {run.path for run in list_runs(tmp_path / "runs", nested=True)}
    assert by_name == {tmp_path / "runs/team/c", tmp_path / "elsewhere/b"}
    assert {run.path for run in list_runs(tmp_path / "runs")} == by_name  # the links lead there
    assert [run.path for run in list_runs(tmp_path / "runs/latest", nested=True)] == [tmp_path / "runs/team/c"]
