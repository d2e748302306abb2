"""The steps of the loop that depend on settings: runs that measure guidance and take what scores better."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from drift.cli.views import show_trace
from drift.config import Config, RecipeSettings, parse_config
from drift.errors import DataError
from drift.evaluation.results import read_trial
from drift.lineage import trace
from drift.policy.model import source_of
from drift.policy.samplers.requests import FreshReplies
from drift.policy.samplers.transformers import LocalBackend
from drift.progress import listening
from drift.records import ChatMessage, Completion, Counts, PreferencePair, PromptItem, read_jsonl, write_jsonl
from drift.run import build_funnel, collect, run_config
from drift.rundir import OnStage, RunDir, load_run
from drift.scoring.scorers import SCORERS, ScorerKind
from drift.steps import check_before_work, choose_guidance
from drift.store import Store
from small_runs import write_chats


def item(number: int, complaint: str | None = "No.") -> PromptItem:
    return PromptItem(
        f"p{number}",
        f"c{number}",
        1,
        (ChatMessage("user", f"question {number}"),),
        "train",
        rejected=ChatMessage("assistant", "no idea"),
        complaint=ChatMessage("user", complaint) if complaint else None,
    )


def settings(policy: Path, **changes) -> Config:
    stage = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}
    tree = {
        "iterations": 1,
        "policy": {"model": str(policy)},
        "recipe": {"guided_share": "auto", "guidance_prompts": 12},
        "sampling": {"max_new_tokens": 8, "max_prompt_length": 512},
        "training": stage,
        "warm_start": {**stage, "epochs": 0},
        "evaluation": {"max_prompts": 4},
        "stop": {"rule": "none"},
    }
    return parse_config({**tree, **changes}, "test")


@pytest.mark.parametrize(
    ("training", "iterations", "warns"),
    [
        ({"loss": "anchored"}, 2, True),
        ({"loss": "anchored_hinge"}, 2, True),
        ({"loss": "anchored", "reference": "warm_start"}, 2, False),
        ({"loss": "anchored"}, 1, False),
        ({"loss": "sigmoid"}, 2, False),
    ],
)
def test_an_anchored_loss_whose_anchor_moves_is_warned_of(tmp_path, tiny_policy, training, iterations, warns):
    cfg = settings(tiny_policy, recipe={}, training=training, iterations=iterations)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append), RunDir.open(tmp_path / "run", "", cfg.seed) as run:
        check_before_work(cfg, run, Store(tmp_path / "store"), None)
    assert [note.endswith("Set training.reference: warm_start") for note in notes] == [True] * warns


def chosen(cfg: Config, folder: Path, on_stage: OnStage | None = None, k: int = 1) -> RecipeSettings:
    """What the loop does before iteration `k`, on thirty complaints."""
    write_jsonl(folder.with_suffix(".jsonl"), [item(n) for n in range(30)])
    policy = source_of(cfg.policy.model)
    with RunDir.open(folder, "", cfg.seed, on_stage) as run:
        return choose_guidance(cfg, run, k, policy, folder.with_suffix(".jsonl"), truth=None, reward=None)


class Wanted:
    """Likes replies with a word in them."""

    def __init__(self, word: str) -> None:
        self.word = word

    def score_all(self, replies) -> list[float | None]:
        return [float(self.word in reply.text) for reply in replies]


@pytest.fixture
def adds_up(serve, said):
    """A server of a policy that adds up only when it sees the complaint, else it greets."""

    def answer(path, body, _):
        guided = "<feedback>" in body.get("messages", [{"content": ""}])[-1]["content"]
        return said.chat("the sum" if guided else "hello") if "chat" in path else said(b"", 404)

    server = serve(answer)
    server.sampling = {"max_new_tokens": 8, "backend": "endpoint", "endpoint": {"base_url": server.url, "model": "m"}}
    return server


@pytest.mark.parametrize(("likes", "share", "side"), [("sum", 1.0, "above"), ("hello", 0.0, "below")])
@pytest.mark.parametrize("guidance", ["turn", "hint", "rewrite"])
def test_what_the_scorer_likes_better_is_taken(
    tmp_path, tiny_policy, adds_up, monkeypatch, likes, share, side, guidance
):
    monkeypatch.setitem(SCORERS, "hindsight", ScorerKind(lambda inputs: Wanted(likes)))
    recipe = {"guided_share": "auto", "guidance": guidance, "guidance_prompts": 12}
    cfg = settings(tiny_policy, recipe=recipe, sampling=adds_up.sampling)
    for k in (1, 2):  # each iteration looks again
        notes: list[str] = []
        with listening(lambda *_: None, notes.append):
            took = chosen(cfg, tmp_path / "run", k=k)
        assert took == cfg.recipe.model_copy(update={"guided_share": share})
        said = f"iteration {k}: guided replies ({guidance}) score 1.000 {side} unguided ones on 12 prompts by hindsight"
        assert [line.startswith(said) for line in notes if "guided" in line] == [True]
        trial = read_trial(tmp_path / f"run/guidance-{k}/guidance.json")
        assert (trial.iteration, trial.guidance, trial.guided_share) == (k, guidance, share)
        rows = list(read_jsonl(tmp_path / f"run/guidance-{k}/completions.jsonl", Completion))
        assert [(row.guided, row.text) for row in rows] == [(True, "the sum"), (False, "hello")] * 12


def test_the_recipes_own_scorer_decides_but_for_self(tmp_path, tiny_policy, adds_up, monkeypatch):
    """The policy's own likelihood favours what was sampled from the request alone, so hindsight stands in for it."""
    for name in ("hindsight", "reward_model", "self"):
        likes = "hello" if name == "hindsight" else "sum"
        monkeypatch.setitem(SCORERS, name, ScorerKind(lambda inputs, likes=likes: Wanted(likes)))
    for name, model, scorer, share in (("reward_model", "m", "reward_model", 1.0), ("self", None, "hindsight", 0.0)):
        recipe = {"guided_share": "auto", "guidance_prompts": 12, "scorer": {"name": name, "model": model}}
        cfg = settings(tiny_policy, recipe=recipe, sampling=adds_up.sampling)
        assert chosen(cfg, tmp_path / name).guided_share == share
        assert read_trial(tmp_path / name / "guidance-1/guidance.json").scorer == scorer


def test_a_share_that_is_set_is_not_measured(tmp_path, tiny_policy):
    cfg = settings(tiny_policy, recipe={"guided_share": 0.5})
    assert chosen(cfg, tmp_path / "run") is cfg.recipe
    assert not list((tmp_path / "run").glob("guidance-*"))


class PowerCut(Exception):
    pass


def test_a_killed_trial_goes_on_and_samples_nothing_twice(tmp_path, tiny_policy, monkeypatch):
    """Killed twice while it samples, then before it scores; it ends as if it had not been."""
    batches: list[tuple[int, int]] = []
    limit = [1000]
    plain = LocalBackend.run

    def counted(self, work):
        for number, done in plain(self, work):
            if len(batches) == limit[0]:
                raise PowerCut
            batches.append((number, len(done)))
            yield number, done

    monkeypatch.setattr(LocalBackend, "run", counted)
    sampling = {"max_new_tokens": 8, "max_prompt_length": 512, "batch_tokens": 1200}
    cfg = settings(tiny_policy, sampling=sampling)

    def before_scores(name, event, _) -> None:
        if (name, event) == ("guidance-1/scores.jsonl", "running"):
            raise PowerCut

    expected = chosen(cfg, tmp_path / "whole")
    whole = list(batches)
    assert len(whole) > 3
    seen: list[tuple[int, int]] = []
    for stop_after in (2, 1, 1000):
        batches.clear()
        limit[0] = stop_after
        with pytest.raises(PowerCut):
            chosen(cfg, tmp_path / "killed", before_scores)
        seen += batches
    assert sorted(seen) == sorted(whole)  # nothing lost, nothing twice
    batches.clear()
    events: list[tuple[str, str]] = []
    assert chosen(cfg, tmp_path / "killed", lambda name, event, _: events.append((name, event))) == expected
    assert batches == []
    assert ("guidance-1/completions.jsonl", "reused") in events
    for name in ("completions.jsonl", "scores.jsonl", "guidance.json"):
        file = f"guidance-1/{name}"
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_without_a_complaint_nothing_is_measured(tmp_path, tiny_policy):
    write_jsonl(tmp_path / "prompts.jsonl", [item(n, complaint=None) for n in range(20)])
    cfg, notes = settings(tiny_policy), []
    with RunDir.open(tmp_path / "run", "", 1) as run, listening(lambda *_: None, notes.append):
        took = choose_guidance(cfg, run, 1, tiny_policy, tmp_path / "prompts.jsonl", truth=None, reward=None)
    assert took.guided_share == 0.0
    assert "iteration 1: no disliked reply has a written complaint to guide with: guided_share 0" in notes


def test_a_run_uses_it_and_reports_it(tmp_path, tiny_policy, adds_up, monkeypatch, capsys):
    monkeypatch.setitem(SCORERS, "hindsight", ScorerKind(lambda inputs: Wanted("sum")))
    rows = [
        {"id": f"chat-{n}", "user": f"u{n}", "messages": [
            {"role": "user", "content": f"Please add {n} and 2."},
            {"role": "assistant", "content": f"{n}2", "feedback": -1},
            {"role": "user", "content": f"No, I meant {n} + 2."},
        ]}
        for n in range(24)
    ]  # fmt: skip
    logs, run = tmp_path / "logs.jsonl", tmp_path / "run"
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = {"guided_share": "auto", "guidance": "rewrite"}
    done = run_config(settings(tiny_policy, logs=[str(logs)], recipe=recipe, sampling=adds_up.sampling), run)
    fresh = list(read_jsonl(run / "iteration-1/completions.jsonl", Completion))
    assert {(row.guided, row.guidance, row.text) for row in fresh} == {(True, "rewrite", "the sum")}
    view = load_run(run)
    used = {stage.name: stage.inputs["recipe"].value for stage in view.stages if "recipe" in stage.inputs}
    assert used["iteration-1/pairs.jsonl"]["guided_share"] == 1.0
    asked = {stage.name: stage.inputs["fresh"].value for stage in view.stages if "fresh" in stage.inputs}
    assert asked["iteration-1/completions.jsonl"] == FreshReplies(guided_share=1.0, guidance="rewrite").model_dump()
    # what measures policies stays the same
    assert asked["heldout/completions.jsonl"] == FreshReplies(guided_share=1.0).model_dump()
    show_trace(trace(run, next(read_jsonl(run / "iteration-1/pairs.jsonl", PreferencePair)).pair_id), as_json=False)
    assert "endpoint/m, guided (rewrite), sample 0, seed 42" in capsys.readouterr().err
    page = (run / "report.html").read_text()
    assert "Does the model answer better when it sees the complaint?" in page
    assert "<tr><td>1</td><td>rewrite</td><td>hindsight</td>" in page
    assert done.counts["pairs of iteration 1"] == len(fresh)
    assert done.counts["replies sampled in iteration 1"] >= len(fresh)


def test_what_the_trial_left_out_is_not_in_the_funnel(tmp_path):
    """Its replies are compared, never trained on: a prompt that is too long for it is no dropped row."""

    def sampled(out: Path) -> Counts:
        out.write_text("")
        return {"prompts": 3, "dropped.prompt_too_long": 2}

    with RunDir.open(tmp_path / "run", "", 1) as run:
        run.folder("guidance-1").stage("completions.jsonl", sampled)
        run.iteration(1).stage("completions.jsonl", sampled)
    store = Store(tmp_path / "store")
    store.add([])
    assert build_funnel(store, load_run(tmp_path / "run")).drops == {"prompt_too_long": 2}


def bare(number: int, comment: str | None) -> dict:
    """A chat whose reply has a thumb down, and what the user wrote next, if anything."""
    asked = {"role": "user", "content": f"Please add {number} and 2."}
    rated = {"role": "assistant", "content": f"{number}2", "feedback": -1}
    return {
        "id": f"chat-{number}",
        "messages": [asked, rated, *([{"role": "user", "content": comment}] if comment else [])],
    }


@pytest.mark.parametrize("comment", [None, "No, that is wrong, I asked for a sum."])
def test_hindsight_needs_one_written_complaint_before_any_work(tmp_path, tiny_policy, comment):
    logs = write_chats(tmp_path, [bare(n, comment if n % 4 == 0 else None) for n in range(40)])
    recipe = {"name": "best_of", "samples": 2, "scorer": {"name": "hindsight"}}
    cfg = settings(tiny_policy, recipe=recipe, logs=[str(logs)])
    with RunDir.open(tmp_path / "run", "", cfg.seed) as run:
        store = collect(cfg, run)
        with nullcontext() if comment else pytest.raises(DataError) as refused:
            check_before_work(cfg, run, store, None)
    if refused:
        assert "none of the" in (line := str(refused.value))
        assert "has a written complaint. Set recipe.scorer.name to another scorer: self, feedback, " in line
