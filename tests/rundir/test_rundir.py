"""A stage runs when something it depends on changed, and only then; a half-made output is never taken for done."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from drift.config import load_config
from drift.errors import DataError, DriftError
from drift.progress import listening
from drift.rundir import RunDir, StageInput, StageRecord, load_run
from drift.rundir.fingerprints import code_version, package_versions, qualified_name
from drift.rundir.manifest import why_redone


class Training(BaseModel):
    beta: float = 0.1


class Sampling(BaseModel):
    temperature: float = 0.7


def copy_lines(out: Path, source: Path) -> dict[str, int]:
    lines = source.read_text().splitlines()
    out.write_text("\n".join(lines))
    return {"rows": len(lines)}


def sample(out: Path, prompts: Path, cfg: Sampling) -> dict[str, int]:
    out.write_text(f"{prompts.read_text()} at {cfg.temperature}")
    return {"completions": 1}


def train(out: Path, completions: Path, cfg: Training, seed: int) -> dict[str, int]:
    out.mkdir()
    (out / "weights").write_text(f"{completions.read_text()} beta {cfg.beta} seed {seed}")
    (out.parent / "metrics.jsonl").write_text("{}\n")
    return {"steps": 3}


def write_constant(out: Path, cfg: Sampling) -> dict[str, int]:
    out.write_text("the same whatever the temperature")
    return {}


def forget_to_write(out: Path) -> dict[str, int]:
    return {}


def fail(out: Path) -> dict[str, int]:
    out.write_text("half")
    raise RuntimeError("the disk is on fire")


def interrupt(out: Path) -> dict[str, int]:
    raise KeyboardInterrupt


def pipeline(
    path: Path, source: Path, beta: float = 0.1, temperature: float = 0.7, beside: Sequence[Path] = ()
) -> dict[str, str]:
    """A small run; returns what became of every stage."""
    events: dict[str, str] = {}
    with RunDir.open(
        path, "name: test\n", 7, lambda name, event, counts: events.update({name: event}), lambda: beside
    ) as run:
        prompts = run.stage("data/prompts.jsonl", copy_lines, source)
        it = run.iteration(1)
        completions = it.stage("completions.jsonl", sample, prompts, Sampling(temperature=temperature))
        it.stage("policy", train, completions, Training(beta=beta), 7)
    return events


PROMPTS, COMPLETIONS, POLICY = "data/prompts.jsonl", "iteration-1/completions.jsonl", "iteration-1/policy"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "log.jsonl").write_text("one\ntwo")
    return tmp_path / "log.jsonl"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "first"


def test_the_same_command_reuses_everything(path: Path, source: Path):
    assert set(pipeline(path, source).values()) == {"done"}
    assert pipeline(path, source) == {PROMPTS: "reused", COMPLETIONS: "reused", POLICY: "reused"}
    assert (path / POLICY / "weights").read_text() == "one\ntwo at 0.7 beta 0.1 seed 7"
    assert (path / "iteration-1/metrics.jsonl").read_text() == "{}\n"
    assert not (path / ".work").exists()


def test_a_changed_setting_redoes_what_depends_on_it(path: Path, source: Path):
    pipeline(path, source)
    changed = pipeline(path, source, beta=0.2)
    assert changed == {PROMPTS: "reused", COMPLETIONS: "reused", POLICY: "done"}
    assert (path / POLICY / "weights").read_text().endswith("beta 0.2 seed 7")
    changed = pipeline(path, source, beta=0.2, temperature=1.0)
    assert changed == {PROMPTS: "reused", COMPLETIONS: "done", POLICY: "done"}


def test_what_a_run_beside_it_has_made_of_the_same_is_copied(path: Path, source: Path, tmp_path: Path):
    pipeline(path, source)
    second = tmp_path / "runs" / "second"
    made = pipeline(second, source, beta=0.2, beside=[tmp_path / "no-run", path])
    assert made == {PROMPTS: "reused", COMPLETIONS: "reused", POLICY: "done"}
    (second / COMPLETIONS).write_text("changed here")
    assert (path / COMPLETIONS).read_text() == "one\ntwo at 0.7"
    third = tmp_path / "runs" / "third"
    # a folder with further outputs, from the run whose files are as it left them
    assert pipeline(third, source, beside=[second, path]) == dict.fromkeys((PROMPTS, COMPLETIONS, POLICY), "reused")
    assert (third / POLICY / "weights").read_text() == "one\ntwo at 0.7 beta 0.1 seed 7"
    assert (third / "iteration-1/metrics.jsonl").read_text() == "{}\n"
    assert pipeline(third, source) == dict.fromkeys((PROMPTS, COMPLETIONS, POLICY), "reused")  # on its own now
    assert not (third / ".work").exists()
    (path / "data/manifest.json").write_text("{broken")
    (path / POLICY / "weights").unlink()
    made = pipeline(tmp_path / "runs" / "fourth", source, beside=[path])
    assert made == {PROMPTS: "done", COMPLETIONS: "reused", POLICY: "done"}


def test_a_redone_stage_says_why(path: Path, source: Path):
    def told(beta: float) -> list[str]:
        notes: list[str] = []
        with listening(lambda *_: None, notes.append):
            pipeline(path, source, beta)
        return notes

    assert told(0.1) == []
    assert told(0.1) == []
    assert told(0.2) == ["iteration-1/policy: redone, cfg.beta 0.1 -> 0.2"]
    (path / COMPLETIONS).write_text("mine")
    source.write_text("other")
    assert told(0.2) == [
        f"{PROMPTS}: redone, the content of {source} changed",
        f"{COMPLETIONS}: redone, the content of {PROMPTS} changed",
        f"{POLICY}: redone, the content of {COMPLETIONS} changed",
    ]
    (path / POLICY / "weights").unlink()
    assert told(0.2) == [f"{POLICY}: redone, its files were changed or deleted since"]


def test_an_input_counts_by_content_not_by_place_or_time(path: Path, source: Path):
    pipeline(path, source)
    source.write_text("one\nthree")
    assert set(pipeline(path, source).values()) == {"done"}
    moved = source.with_name("elsewhere.jsonl")
    moved.write_text("one\nthree")
    assert set(pipeline(path, moved).values()) == {"reused"}


def test_a_run_that_was_moved_is_still_reusable(path: Path, source: Path):
    pipeline(path, source)
    path.rename(path.with_name("second"))
    assert set(pipeline(path.with_name("second"), source).values()) == {"reused"}


def test_what_follows_a_redone_stage_with_equal_bytes_is_reused(path: Path):
    for temperature, expected in [(0.7, "done"), (0.9, "reused")]:
        events: dict[str, str] = {}
        with RunDir.open(path, "", 0, lambda name, event, counts: events.update({name: event})) as run:  # noqa: B023
            constant = run.stage("data/constant", write_constant, Sampling(temperature=temperature))
            run.stage("data/copy", copy_lines, constant)
        assert events == {"data/constant": "done", "data/copy": expected}


@pytest.mark.parametrize("damage", ["change", "delete", "add"])
def test_a_damaged_output_is_redone(path: Path, source: Path, damage: str):
    pipeline(path, source)
    weights = path / POLICY / "weights"
    whole = weights.read_text()
    if damage == "change":
        weights.write_text(whole.replace("one", "two"))
    elif damage == "delete":
        weights.unlink()
    else:
        (path / POLICY / "extra").write_text("")
    assert pipeline(path, source) == {PROMPTS: "reused", COMPLETIONS: "reused", POLICY: "done"}
    assert [file.name for file in (path / POLICY).iterdir()] == ["weights"]
    assert weights.read_text() == whole


def test_the_manifest_says_where_an_output_came_from(path: Path, source: Path):
    pipeline(path, source)
    policy = load_run(path).stages[-1]
    assert policy.name == POLICY
    assert policy.inputs["completions"].value == COMPLETIONS
    assert policy.inputs["cfg"].value == {"beta": 0.1}
    assert policy.inputs["seed"].value == 7
    assert policy.counts == {"steps": 3}
    assert set(policy.outputs) == {"policy/weights", "metrics.jsonl"}
    assert policy.packages["python"] == sys.version.split()[0]


def test_a_failing_stage_leaves_the_old_output_and_says_failed(path: Path, source: Path):
    pipeline(path, source)
    before = (path / PROMPTS).read_text()
    with pytest.raises(RuntimeError, match="on fire"), RunDir.open(path, "", 7) as run:
        run.stage(PROMPTS, fail)
    assert (path / PROMPTS).read_text() == before
    state = load_run(path).state
    assert (state.state, state.stage, state.error) == ("failed", PROMPTS, "the disk is on fire")
    assert not (path / ".work").exists()


def test_ctrl_c_is_noted_and_resumable(path: Path, source: Path):
    pipeline(path, source)
    with pytest.raises(KeyboardInterrupt), RunDir.open(path, "", 7) as run:
        run.stage("data/other", interrupt)
    assert load_run(path).state.state == "interrupted"
    assert set(pipeline(path, source).values()) == {"reused"}
    assert load_run(path).state.state == "done"


def test_a_finished_run_stays_so_when_its_report_fails(tmp_path):
    def finish_and_report() -> None:
        with RunDir.open(tmp_path, "", 0) as run:
            run.finish()
            fail(tmp_path / "report.html")

    with pytest.raises(RuntimeError, match="on fire"):
        finish_and_report()
    state = load_run(tmp_path).state
    assert (state.state, state.error) == ("done", None)


SCRIPT = """
import sys, time
from pathlib import Path
from drift.rundir import RunDir

def first(out):
    out.write_text("whole")
    return {"rows": 1}

def second(out, source, hang):
    out.mkdir()
    (out / "weights").write_text(source.read_text() + " half")
    if (hang / "flag").exists():
        print("in the middle", flush=True)
        time.sleep(60)
    (out / "weights").write_text(source.read_text() + " done")
    return {"rows": 2}

folder = Path(sys.argv[1])
with RunDir.open(folder / "run", "", 0, lambda name, event, counts: print(name, event, flush=True)) as run:
    source = run.stage("data/first", first)
    (folder / "seen").mkdir(exist_ok=True)
    run.iteration(1).stage("policy", second, source, folder / "seen")
"""


def test_kill_9_in_the_middle_of_a_stage_then_the_same_command(tmp_path: Path):
    (tmp_path / "seen").mkdir()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    weights = tmp_path / "run/iteration-1/policy/weights"
    (tmp_path / "seen" / "flag").touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(3)][-1] == "in the middle"
        assert load_run(tmp_path / "run").state.state == "running"
        with pytest.raises(DriftError, match=f"process {process.pid} is writing here.*--out DIR"):
            RunDir.open(tmp_path / "run", "", 0)
        os.kill(process.pid, signal.SIGKILL)
    assert weights.read_text() == "whole done"
    killed = load_run(tmp_path / "run")
    assert (killed.state.state, killed.state.stage) == ("interrupted", "iteration-1/policy")
    assert killed.file("iteration-1/policy") is None
    (tmp_path / "seen" / "flag").unlink()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert again.stdout.splitlines() == ["data/first reused", "iteration-1/policy reused"]
    weights.unlink()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert again.stdout.splitlines()[-1] == "iteration-1/policy done"
    assert weights.read_text() == "whole done"
    assert not (tmp_path / "run/.work").exists()


@pytest.mark.parametrize("make", ["file", "other"])
def test_a_path_that_cannot_be_a_run_is_refused_untouched(tmp_path: Path, make: str):
    taken = tmp_path / "taken"
    if make == "file":
        taken.write_text("mine")
    else:
        taken.mkdir()
        (taken / "thesis.tex").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="--out DIR") as refused:
        RunDir.open(taken, "", 0)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_input_is_named(path: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"), RunDir.open(path, "", 0) as run:
        run.stage("data/copy", copy_lines, tmp_path / "gone.jsonl")


def test_inputs_that_cannot_be_hashed_are_refused(path: Path):
    hidden = "x"

    def closure(out: Path) -> dict[str, int]:
        out.write_text(hidden)
        return {}

    with RunDir.open(path, "", 0) as run:
        with pytest.raises(TypeError, match="fingerprint"):
            run.stage("data/a", copy_lines, ["a", "list"])
        with pytest.raises(TypeError, match="not a plain function"):
            run.stage("data/a", closure)
        with pytest.raises(RuntimeError, match="has not written a"):
            run.stage("data/a", forget_to_write)


def test_a_stage_may_not_write_over_another(path: Path, source: Path):
    with RunDir.open(path, "", 0) as run:
        run.iteration(1).stage("metrics.jsonl", copy_lines, source)
        with pytest.raises(RuntimeError, match=r"outputs of metrics\.jsonl"):
            run.iteration(1).stage("policy", train, source, Training(), 7)


def choose(out: Path, chosen: str = "", rejected: str = "") -> dict[str, int]:
    out.write_text(f"{chosen}|{rejected}")
    return {}


def test_an_input_counts_under_its_name(path: Path):
    """One optional input left out and another given is another stage; a keyword is the same as its position."""
    with RunDir.open(path, "", 0) as run:
        assert run.stage("data/a", choose, chosen="x").read_text() == "x|"
        assert run.stage("data/a", choose, rejected="x").read_text() == "|x"
    done: list[str] = []
    with RunDir.open(path, "", 0, lambda name, event, counts: done.append(event)) as run:
        run.stage("data/a", choose, "", "x")
        run.stage("data/a", choose, chosen="", rejected="x")
        run.stage("data/a", choose, "", rejected="x")
    assert done == ["running", "done", "reused", "reused"]


def test_inputs_that_the_function_does_not_take_are_refused(path: Path):
    with RunDir.open(path, "", 0) as run, pytest.raises(TypeError, match="unexpected keyword argument 'preferred'"):
        run.stage("data/a", choose, preferred="x")  # pyright: ignore[reportCallIssue]


def test_a_run_of_an_earlier_version_is_read_and_resumed(path: Path):
    """Made by `drift demo` before stages took keywords, cut to one stage."""
    shutil.copytree(Path(__file__).with_name("earlier_run"), path)
    view = load_run(path)
    assert (view.state.state, view.state.threads, [stage.counts for stage in view.stages]) == ("done", 2, [{"rows": 3}])
    cfg = load_config(path / "config.yaml")  # with settings that have moved since
    assert (cfg.training.loss, cfg.training.experimental.margin_unit, cfg.iterations) == ("anchored", "sequence", 3)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append), RunDir.open(path, "", 0) as run:
        run.stage("data/prompts.jsonl", write_constant, cfg=Sampling())
    assert "data/prompts.jsonl: redone, cfg is new; formerly made by drift.pairs.stages.find_prompts" in notes[0]
    assert "whatever" in (path / "data/prompts.jsonl").read_text()


def tune(out: Path, settings: Mapping[str, object]) -> dict[str, int]:
    return {}


def test_settings_that_moved_between_versions_are_not_told_as_changes():
    """Those that the user changed are told; what the code moved, added or dropped goes with the code's own line."""
    before = {"beta": 0.1, "tau": 0.25, "margin_unit": "sequence", "vllm": {"seeds": True, "gpus": [0]}, "lora": None}
    now = {"beta": 0.2, "experimental": {"margin_unit": "sequence"}, "vllm": {"gpus": [1]}, "lora": {"r": 16}}
    record = StageRecord(
        "policy", "old", qualified_name(tune), {"settings": StageInput(before, "a")}, code_version(),
        package_versions(), {}, {}, 0.0, "",
    )  # fmt: skip
    assert why_redone(record, tune, {"settings": StageInput(now, "b")}, "new") == (
        "redone, settings.beta 0.1 -> 0.2; settings.vllm.gpus 0 -> 1; settings.lora None -> {'r': 16}"
    )
    moved = {**before, "experimental": {"margin_unit": "sequence"}}
    record = replace(record, code_version="0.1.0+older")
    assert why_redone(record, tune, {"settings": StageInput(moved, "b")}, "new") == (
        f"redone, drift's code 0.1.0+older -> {code_version()}"
    )


@pytest.mark.slow
def test_pyright_checks_what_a_stage_is_given(tmp_path: Path):
    source = tmp_path / "stages.py"
    source.write_text(
        "from pathlib import Path\n"
        "from drift.rundir import RunDir\n"
        "def make(out: Path, rows: int) -> dict[str, int | float]: return {}\n"
        "def call(run: RunDir) -> None:\n"
        "    run.stage('a', make, rows=1)\n"
        "    run.stage('a', make, rows='1')\n"
        "    run.iteration(1).stage('a', make, row=1)\n",
        encoding="utf-8",
    )
    told = subprocess.run([sys.executable, "-m", "pyright", str(source)], capture_output=True, text=True, check=False)
    errors = [line for line in told.stdout.splitlines() if " error: " in line]
    assert sorted({line.split(":")[1] for line in errors}) == ["6", "7"]
