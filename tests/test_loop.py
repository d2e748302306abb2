"""The whole loop on a small random policy: folders, resume, and a kill in the middle."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors import safe_open

from drift.config import Config, parse_config
from drift.errors import DataError, PrerequisiteError
from drift.lineage import trace
from drift.plan import make_plan
from drift.plan.costs import ModelCosts
from drift.plan.rows import Rows
from drift.plan.stages import Stages
from drift.progress import listening
from drift.records import Completion, PreferencePair, read_jsonl
from drift.run import RunSummary, run_config
from drift.rundir import load_run
from drift.training.reference import ABOUT
from small_runs import STAGE, settings, write_logs
from stopping import run_until


@pytest.fixture
def logs(tmp_path) -> Path:
    return write_logs(tmp_path)


def test_the_nodes_of_a_cluster_are_asked_for_the_run_folder_and_the_store(tmp_path, monkeypatch):
    asked: list[Path] = []

    def open_nothing(_: object, *folders: Path) -> None:
        asked.extend(folders)
        raise PrerequisiteError("a node does not see a folder")

    monkeypatch.setattr("drift.run.open_engine", open_nothing)
    for store in (None, str(tmp_path / "store")):
        with pytest.raises(PrerequisiteError):
            run_config(Config(store=store), tmp_path / "run")
    assert asked == [tmp_path / "run", tmp_path / "run", tmp_path / "store"]


CUT_IN = ("iteration-2/completions.jsonl", "iteration-2/policy")


@dataclass(frozen=True)
class FinishedRun:
    """`events`: of its stages, by name, in the order in which they came. `cut`: copies of all its files, as they were
    in the middle of each stage of CUT_IN."""

    logs: Path
    path: Path
    summary: RunSummary
    events: list[tuple[str, str]]
    cut: dict[str, Path]


@pytest.fixture(scope="module")
def two_iterations(tmp_path_factory, tiny_policy) -> FinishedRun:
    folder = tmp_path_factory.mktemp("two-iterations")
    logs, events, cut = write_logs(tmp_path_factory.mktemp("logs")), [], {}

    def copy_in_the_middle(*_: int) -> None:
        stage, event = events[-1] if events else ("", "")
        if event == "running" and stage in CUT_IN and stage not in cut:
            cut[stage] = tmp_path_factory.mktemp("cut") / "run"
            shutil.copytree(folder / "run", cut[stage])

    with listening(copy_in_the_middle):
        done = run_config(
            settings(logs, tiny_policy), folder / "run", lambda name, event, _: events.append((name, event))
        )
    return FinishedRun(logs, folder / "run", done, events, cut)


def test_two_iterations_leave_everything_that_the_contract_names(two_iterations):
    from transformers import AutoModelForCausalLM

    done, run = two_iterations.summary, two_iterations.path
    for name in ("config.yaml", "run.json", "data/prompts.jsonl", "warm-start/pairs.jsonl", "report.html"):
        assert (run / name).stat().st_size > 0
    for k in (1, 2):
        for name in ("completions.jsonl", "pairs.jsonl", "metrics.jsonl", "evaluation.json", "manifest.json"):
            assert (run / f"iteration-{k}" / name).stat().st_size > 0
    assert AutoModelForCausalLM.from_pretrained(run / "policy").num_parameters() > 0
    assert done.counts["conversations"] == 60
    first, second = (
        {p.prompt_id: p for p in read_jsonl(run / f"iteration-{k}/pairs.jsonl", PreferencePair)} for k in (1, 2)
    )
    both = first.keys() & second.keys()  # a random policy says nothing now and then
    assert len(both) > 20
    assert all(first[i].rejected == second[i].rejected for i in both)  # y- is fixed
    assert {p.policy_id for p in first.values()} != {p.policy_id for p in second.values()}  # y+ is fresh
    traced = trace(run, next(iter(first.values())).pair_id)
    (lineage,) = traced.pairs
    assert traced.policies[:2] == ("iteration-1/policy", "iteration-2/policy")
    assert lineage.label is not None
    assert lineage.label.label == "DSAT"
    assert lineage.completion is not None
    assert lineage.completion.policy_id == lineage.pair.policy_id
    assert lineage.trained is not None
    weights = (run / "iteration-1/policy/model.safetensors").read_bytes()
    assert lineage.trained.outputs["policy/model.safetensors"] == hashlib.sha256(weights).hexdigest()
    back = trace(run, lineage.origin.source_id or "")  # from the log's own id to every pair that came of it
    assert lineage.pair.pair_id in {found.pair.pair_id for found in back.pairs}
    with pytest.raises(DataError, match="no pair, prompt or conversation 'nonsense'"):
        trace(run, "nonsense")
    assert set(first) & {p.prompt_id for p in read_jsonl(run / "heldout/pairs.jsonl", PreferencePair)} == set()


def test_the_same_command_reuses_everything_and_another_setting_all_that_does_not_depend_on_it(
    tmp_path, two_iterations, tiny_policy
):
    assert {event for _, event in two_iterations.events} == {"running", "done"}
    shutil.copytree(two_iterations.path, tmp_path / "run")
    events: list[tuple[str, str]] = []
    run_config(
        settings(two_iterations.logs, tiny_policy),
        tmp_path / "run",
        lambda name, event, _: events.append((name, event)),
    )
    assert {event for _, event in events} == {"reused"}

    def redone(stop_after: str, **changes) -> set[str]:
        cfg = settings(two_iterations.logs, tiny_policy, **changes)
        return {name for name, event in run_until(cfg, tmp_path / "run", stop_after) if event == "done"}

    other_loss = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16, "beta": 0.5}
    done = redone("iteration-2/completions.jsonl", training=other_loss)
    assert {"iteration-1/policy", "iteration-2/completions.jsonl"} <= done
    assert not done & {"warm-start/policy", "data/prompts.jsonl", "iteration-1/completions.jsonl"}
    # another scorer needs no other fresh replies
    done = redone("iteration-1/policy", recipe={"pairs": 16, "only_wins": True, "scorer": {"name": "self"}})
    assert {"iteration-1/scores.jsonl", "iteration-1/pairs.jsonl", "iteration-1/policy"} <= done
    assert "iteration-1/completions.jsonl" not in done
    assert "iteration-1/completions.jsonl" in redone("iteration-1/completions.jsonl", recipe={"samples": 2})


def reference_and_sampler(run: Path, k: int) -> tuple[str, str]:
    """The policies of iteration `k`: whose log-probs the loss is relative to, and who answered the prompts."""
    with safe_open(run / f"iteration-{k}/reference.safetensors", "pt") as file:
        reference = json.loads(file.metadata()[ABOUT])["policies"].split()[0]
    (sampler,) = {reply.policy_id for reply in read_jsonl(run / f"iteration-{k}/completions.jsonl", Completion)}
    return reference, sampler


def test_the_reference_is_the_policy_at_the_iterations_start_or_the_warm_start(tmp_path, two_iterations, tiny_policy):
    (first, starts_first), (second, starts_second) = (reference_and_sampler(two_iterations.path, k) for k in (1, 2))
    assert (first, second) == (starts_first, starts_second)
    assert first != second
    shutil.copytree(two_iterations.path, tmp_path / "run")
    cfg = settings(two_iterations.logs, tiny_policy, training={**STAGE, "reference": "warm_start"})
    run_until(cfg, tmp_path / "run", "iteration-2/reference.safetensors")
    assert [reference_and_sampler(tmp_path / "run", k)[0] for k in (1, 2)] == [first, first]


def test_logs_in_which_nobody_complains_stop_with_the_funnel(tmp_path, tiny_policy):
    logs = tmp_path / "calm.jsonl"
    rows = (
        {"messages": [{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": "hello"}]}
        for n in range(5)
    )
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"5 conversations.*0 judged replies.*0 disliked replies to train on"):
        run_config(settings(logs, tiny_policy), tmp_path / "run")
    assert load_run(tmp_path / "run").state.state == "failed"


def test_a_run_ends_with_what_it_has_when_nothing_is_left_to_learn(tmp_path, logs, tiny_policy, serve, said):
    """Repairs that do not fit make no warm start; replies that stay away end the run before their iteration."""
    silent, notes = [], []
    server = serve(lambda path, *_: said.chat("" if silent else "fine") if "chat" in path else said(b"", 404))

    def on_stage(name, event, _) -> None:
        if (name, event) == ("iteration-1/policy", "done"):
            silent.append(True)

    cfg = settings(logs, tiny_policy)
    cfg = parse_config(
        {
            **cfg.model_dump(),
            "sampling": {
                "max_new_tokens": 8,
                "backend": "endpoint",
                "endpoint": {"base_url": server.url, "model": "m"},
            },
            "warm_start": {"max_prompt_length": 4},
            "evaluation": {"max_prompts": 4},
        },
        "test",
    )
    with listening(lambda *_: None, notes.append):
        run_config(cfg, tmp_path / "run", on_stage)
    run = load_run(tmp_path / "run")
    assert run.state.state == "done"
    assert (tmp_path / "run/policy/model.safetensors").exists()
    assert not (tmp_path / "run/iteration-2/policy").exists()
    told = "\n".join(notes)
    assert "nothing to learn from before the first iteration: " in told
    assert "iteration 2 has no pair to learn from" in told
    assert "empty_chosen" in str(next(s.counts for s in run.stages if s.name == "iteration-2/pairs.jsonl"))


@pytest.mark.parametrize("stage", CUT_IN)
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path, two_iterations, tiny_policy, monkeypatch, stage):
    """From the files as they were in the middle of a stage, which is what a kill leaves. The test below does kill: it
    takes processes of its own, each of which loads torch."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import kill_resume  # pyright: ignore[reportMissingImports]

    run = tmp_path / "run"
    shutil.copytree(two_iterations.cut[stage], run)
    cut_off = load_run(run).state
    assert (cut_off.state, cut_off.stage) == ("interrupted", stage)
    events: list[tuple[str, str]] = []
    run_config(settings(two_iterations.logs, tiny_policy), run, lambda name, event, _: events.append((name, event)))
    assert next(name for name, event in events if event == "running") == stage
    assert kill_resume.differences(two_iterations.path, run) == []


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 3])
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path, tiny_policy, monkeypatch, kills):
    """The short form of benchmarks/kill_resume.py."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import kill_resume  # pyright: ignore[reportMissingImports]

    kill_resume.write_logs(tmp_path / "logs.jsonl", 30)
    stage = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 8, "epochs": 1}
    sampling = {"max_new_tokens": 16, "max_prompt_length": 512, "batch_tokens": 1500}
    config = {"policy": {"model": str(tiny_policy)}, "iterations": 1, "sampling": sampling, "training": stage}
    done = kill_resume.kill_and_resume(
        tmp_path / "logs.jsonl", tmp_path, kills, 1, {**config, "warm_start": stage, "evaluation": {"max_prompts": 20}}
    )
    assert done.differing == []
    assert done.kills == kills


def test_the_base_is_not_measured_twice_where_nothing_warms_it_up(tmp_path, logs, tiny_policy):
    stage = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}
    cfg = settings(logs, tiny_policy, iterations=1, warm_start={**stage, "epochs": 0})
    run_until(cfg, tmp_path / "run", "warm-start/evaluation.json")
    base, warm = ((tmp_path / f"run/{name}/evaluation.json").read_bytes() for name in ("base", "warm-start"))
    assert base == warm
    took = {s.name: s.wall_seconds for s in load_run(tmp_path / "run").stages if s.name.endswith("evaluation.json")}
    assert took["warm-start/evaluation.json"] < took["base/evaluation.json"]


def test_a_plan_says_which_stages_are_kept_and_touches_nothing(two_iterations, tiny_policy):
    def files() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in two_iterations.path.rglob("*") if file.is_file()}

    before, folder = files(), two_iterations.path
    plan = make_plan(settings(two_iterations.logs, tiny_policy), folder)
    assert [stage.name for stage in plan.stages if not stage.kept] == ["ingestion", "labels"]  # of every command
    kept = {stage.name: stage.rows for stage in plan.stages if stage.kept}
    counts = {stage.name: stage.counts for stage in load_run(folder).stages}
    assert kept.keys() <= counts.keys()
    assert kept["iteration-2/pairs.jsonl"] == counts["iteration-2/pairs.jsonl"]["rows"]
    assert plan.total.gpu_hours == 0
    training = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16, "beta": 0.3}
    changed = make_plan(settings(two_iterations.logs, tiny_policy, training=training), folder)
    to_do = [stage.name for stage in changed.stages if not stage.kept]
    assert "iteration-1..2/policy" in to_do
    assert "iteration-1/pairs.jsonl" not in to_do
    assert "iteration-2/completions.jsonl" in to_do
    assert changed.total.gpu_hours
    assert files() == before


def planned_names(cfg: Config) -> set[str]:
    rows = Rows(0, 0, conversations=60, stored=60, labels={}, kept={})
    of_every_command = {"ingestion", "labels"}
    return {stage.name for stage in Stages(cfg, rows, ModelCosts(1e6)).planned()} - of_every_command


def test_a_plan_names_the_stages_of_a_run(two_iterations, tiny_policy):
    made = {name for name, _ in two_iterations.events}
    assert made == planned_names(settings(two_iterations.logs, tiny_policy))


def test_a_plan_names_what_further_settings_add(tmp_path, logs, tiny_policy):
    stage = {**STAGE, "diagnostics": True}
    cfg = settings(
        logs,
        tiny_policy,
        iterations=1,
        recipe={
            "guided_share": "auto",
            "guidance_prompts": 12,
            "own_majority": 3,
            "scorer": {"name": "hindsight"},
            "retire_below": 100,
        },
        training=stage,
        warm_start={**STAGE, "on": "both", "epochs": 1},
        evaluation={"max_prompts": 4},
    )
    made = set()
    run_config(cfg, tmp_path / "run", on_stage=lambda name, event, _: made.add(name))
    assert made == planned_names(cfg)
