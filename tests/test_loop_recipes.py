"""Runs of the loop on a small random policy, recipe by recipe: what each learns from, and from what it does not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from drift.cli.views import show_trace
from drift.config import RECIPE_RULES, PolicySettings, RecipeRules, SamplingSettings
from drift.errors import ConfigError, DataError, PrerequisiteError
from drift.evaluation.results import read_evaluation
from drift.experiments.simulation import sandbox_truth
from drift.lineage import trace
from drift.pairs.recipes import RECIPES, RecipeInputs
from drift.pairs.recipes.recipe import fresh_against
from drift.policy.model import load_policy, source_of
from drift.policy.sampler import generate_replies
from drift.policy.source import is_adapter
from drift.progress import listening
from drift.records import ChatMessage, Completion, Drop, PreferencePair, PromptItem, read_jsonl
from drift.run import build_funnel, run_config
from drift.rundir import load_run
from drift.store import Store
from small_runs import settings, write_logs
from stopping import run_until


@pytest.fixture
def logs(tmp_path) -> Path:
    return write_logs(tmp_path)


def test_a_recipe_is_its_pairs_and_one_line_of_rules(tmp_path, logs, tiny_policy, monkeypatch):
    """What pairs/recipes/mine.py and its line in config/recipe_rules.py would hold; no other file knows recipes."""

    def longest_first(inputs: RecipeInputs) -> Iterator[PreferencePair | Drop]:
        for completion in inputs.completions:
            item = inputs.items[completion.prompt_id]
            fresh = ChatMessage("assistant", completion.text)
            sides = sorted([fresh, item.rejected], key=lambda message: -len(message.content))
            yield fresh_against("mine", item, completion, *sides)

    with pytest.raises(ConfigError, match=r"recipe.name: .*no such recipe: 'mine'.*allowed: drift, spin"):
        settings(logs, tiny_policy, recipe={"name": "mine"})
    monkeypatch.setitem(RECIPE_RULES, "mine", RecipeRules(fixed_rejected=True))
    monkeypatch.setitem(RECIPES, "mine", longest_first)
    run_until(
        settings(logs, tiny_policy, recipe={"name": "mine"}, iterations=1), tmp_path / "run", "iteration-1/policy"
    )
    pairs = list(read_jsonl(tmp_path / "run/iteration-1/pairs.jsonl", PreferencePair))
    assert {pair.recipe for pair in pairs} == {"mine"}
    assert all(len(pair.chosen[0].content) >= len(pair.rejected[0].content) for pair in pairs)
    assert (tmp_path / "run/iteration-1/policy/model.safetensors").is_file()


@pytest.mark.parametrize(("on", "stages"), [("liked", {"liked-start"}), ("both", {"liked-start", "warm-start"})])
def test_a_warm_start_on_liked_replies(tmp_path, logs, tiny_policy, on, stages, capsys):
    stage = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}
    cfg = settings(logs, tiny_policy, iterations=1, warm_start={**stage, "epochs": 1, "on": on})
    run_until(cfg, tmp_path / "run", f"{sorted(stages)[-1]}/policy")
    view = load_run(tmp_path / "run")
    trained = {stage.name for stage in view.stages if stage.name.endswith("start/policy")}
    assert trained == {f"{name}/policy" for name in stages}
    liked = list(read_jsonl(tmp_path / "run/liked-start/pairs.jsonl", PreferencePair))
    assert 0 < len(liked) <= 15  # one in four, in the training split
    for pair in liked:
        number = int(pair.prompt[-1].content.removeprefix("No, I meant ").split()[0])
        assert (pair.chosen[0].content, pair.rejected) == (f"{number + 2}", ())
    rows = [json.loads(row) for row in (tmp_path / "run/liked-start/metrics.jsonl").read_text().splitlines()]
    assert all(row["loss"] > 0 for row in rows)
    assert not any(name in row for row in rows for name in ("rewards/margins", "rewards/accuracies", "logps/rejected"))
    counts = next(stage.counts for stage in view.stages if stage.name == "liked-start/policy")
    assert "last_accuracy" not in counts  # nothing is rejected, so nothing can be told apart
    traced = trace(tmp_path / "run", liked[0].pair_id)
    assert traced.policies[0] == "liked-start/policy"
    show_trace(traced, as_json=True)
    shown = capsys.readouterr()
    assert f"chosen       '{liked[0].chosen[0].content}'" in shown.err
    assert "rejected" not in shown.err
    steps = {step.name: step.count for step in build_funnel(Store(next(iter(view.store_folders))), view).steps}
    assert steps["liked replies"] == steps["liked replies trained on before the first iteration"] == len(liked)


@pytest.mark.parametrize("learns", [True, False])
def test_logs_without_dislikes_end_with_the_warm_start_if_it_learned(tmp_path, tiny_policy, learns):
    chats = [
        {"role": "user", "content": "Please add 1 and 2."},
        {"role": "assistant", "content": "3", "feedback": 1},
    ]
    logs = tmp_path / "liked.jsonl"
    logs.write_text("".join(json.dumps({"id": f"c{n}", "user": f"u{n}", "messages": chats}) + "\n" for n in range(12)))
    warm = {"learning_rate": 1e-2, "batch_size": 4, "epochs": 2, "on": "liked" if learns else "repairs"}
    cfg = settings(logs, tiny_policy, iterations=1, warm_start=warm)
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        if not learns:
            with pytest.raises(DataError, match=r"Users liked 12 replies; warm_start\.on=liked learns from them"):
                run_config(cfg, tmp_path / "run")
            return
        run_config(cfg, tmp_path / "run")
    assert any("iteration 1 has no pair to learn from, so the run ends with the warm start" in note for note in notes)
    weights = "model.safetensors"
    kept, trained = (tmp_path / "run" / name / weights for name in ("policy", "liked-start/policy"))
    assert kept.read_bytes() == trained.read_bytes() != (tiny_policy / weights).read_bytes()


@pytest.mark.parametrize("lora", [pytest.param(None, marks=pytest.mark.slow), {"r": 4, "alpha": 8}])
def test_a_reward_from_the_stores_labels_ranks_the_samples(tmp_path, tiny_policy, lora):
    """Users like `yes` and dislike `nah`: the reward is trained once, kept, and scores every sample."""
    path = tmp_path / "logs.jsonl"
    rows = [
        {"id": f"{word}-{n}", "user": f"u{n}", "messages": [
            {"role": "user", "content": f"question {n}"},
            {"role": "assistant", "content": " ".join([word] * (1 + n % 3)), "feedback": 1 if word == "yes" else -1},
        ]}
        for n in range(200) for word in ("yes", "nah")
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    scorer = {"name": "feedback", "feedback": {"epochs": 6, "learning_rate": 3e-3}}
    recipe = {"name": "best_of", "samples": 2, "guided_share": 0.0, "scorer": scorer}
    cfg = settings(path, tiny_policy, recipe=recipe, policy={"model": str(tiny_policy), "lora": lora})
    run_until(cfg, tmp_path / "run", "iteration-2/pairs.jsonl")
    view = load_run(tmp_path / "run")
    assert is_adapter(tmp_path / "run/iteration-1/feedback-reward") is (lora is not None)
    trained = [stage for stage in view.stages if stage.name.endswith("feedback-reward")]
    assert [stage.name for stage in trained] == ["iteration-1/feedback-reward"]
    assert trained[0].counts["auroc"] > 0.9
    pairs = list(read_jsonl(tmp_path / "run/iteration-2/pairs.jsonl", PreferencePair))
    assert pairs
    assert all(pair.margin is not None and pair.margin_source == "feedback" for pair in pairs)
    assert len({pair.prompt_id for pair in pairs}) == len(pairs)


def test_kto_learns_from_every_judged_reply_and_samples_nothing(tmp_path, logs, tiny_policy, capsys):
    stage = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 8}
    changes = {"recipe": {"name": "unpaired"}, "training": {**stage, "loss": "kto"}}
    run = tmp_path / "run"
    run_config(settings(logs, tiny_policy, **changes), run)
    first, second = (list(read_jsonl(run / f"iteration-{k}/pairs.jsonl", PreferencePair)) for k in (1, 2))
    assert first == second  # nothing is fresh
    assert not (run / "iteration-1/completions.jsonl").exists()
    liked, disliked = [pair for pair in first if pair.chosen], [pair for pair in first if pair.rejected]
    assert (0 < len(liked) <= 15, len(liked) + len(disliked)) == (True, len(first))
    for pair in liked:
        number = int(pair.prompt[-1].content.removeprefix("No, I meant ").split()[0])
        assert (pair.chosen[0].content, pair.rejected) == (f"{number + 2}", ())
    assert all(pair.rejected[0].content.endswith("2") for pair in disliked)
    metrics = [json.loads(row) for row in (run / "iteration-1/metrics.jsonl").read_text().splitlines()]
    assert all({"kl", "loss", "rewards/accuracies"} <= row.keys() for row in metrics)
    assert (run / "iteration-2/policy/model.safetensors").is_file()
    assert (run / "report.html").stat().st_size > 0
    view = load_run(run)
    steps = {step.name: step.count for step in build_funnel(Store(next(iter(view.store_folders))), view).steps}
    assert steps["pairs of iteration 1"] == len(first)
    assert "replies sampled in iteration 1" not in steps
    show_trace(trace(run, disliked[0].pair_id), as_json=False)
    shown = capsys.readouterr().err
    assert "rejected" in shown
    assert "chosen" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("name", ["follow_up", "fresh_follow_up"])
def test_self_distillation_learns_from_every_message_that_follows_a_reply(tmp_path, logs, tiny_policy, name):
    stage = {"learning_rate": 1e-3, "optimizer": "adamw_torch", "batch_size": 16}
    changes = {"recipe": {"name": name}, "training": {**stage, "loss": "self_distillation", "signal_clip": 2.0}}
    cfg, run = settings(logs, tiny_policy, iterations=1, **changes), tmp_path / "run"
    run_config(cfg, run)
    pairs = list(read_jsonl(run / "iteration-1/pairs.jsonl", PreferencePair))
    numbers = [pair.follow_up.content.removeprefix("No, I meant ").split()[0] for pair in pairs if pair.follow_up]
    assert len(pairs) == len(numbers) > 20
    assert all(
        not pair.rejected and f"add {n} and" in pair.prompt[0].content for n, pair in zip(numbers, pairs, strict=True)
    )
    fresh = run / "iteration-1/completions.jsonl"
    if name == "follow_up":
        assert not fresh.exists()
        assert [pair.chosen[0].content for pair in pairs] == [f"{n}2" for n in numbers]
    else:
        assert not any(completion.guided for completion in read_jsonl(fresh, Completion))
    made = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    run_config(cfg, run)  # everything is reused
    assert made == {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    traced = trace(run, pairs[0].pair_id).pairs[0]
    assert traced.origin.conversation_id == pairs[0].conversation_id
    assert (traced.completion is None) == (name == "follow_up")
    assert set(trace(run, pairs[0].pair_id).policies) == {"iteration-1/policy", "policy"}


@pytest.mark.slow
def test_rlhi_rewrites_once_and_every_iteration_learns_from_it(tmp_path, logs, tiny_policy):
    run = tmp_path / "run"
    run_config(settings(logs, tiny_policy, recipe={"name": "rlhi"}, stop={"rule": "none"}), run)
    first, second = (list(read_jsonl(run / f"iteration-{k}/pairs.jsonl", PreferencePair)) for k in (1, 2))
    assert first == second
    assert first
    assert not (run / "iteration-2/completions.jsonl").exists()
    traced = {lineage.file: lineage for lineage in trace(run, first[0].pair_id).pairs}
    assert {lineage.sampled_by.path for lineage in traced.values() if lineage.sampled_by} == {
        "iteration-1/completions.jsonl"
    }
    assert all(lineage.completion for lineage in traced.values())
    assert len(traced) == 2


@pytest.mark.slow
def test_a_complaint_about_what_the_policy_always_says_is_not_believed(tmp_path):
    """The embedded policy, sampled at a low temperature, disliked for its own answers in half of the chats."""
    policy, truth = load_policy(source_of("embedded"), PolicySettings()), sandbox_truth("validation", 40)
    sampling = SamplingSettings(temperature=0.0, max_new_tokens=32, max_prompt_length=512)
    own = generate_replies(policy, truth.prompts, [str(i) for i in range(40)], sampling)
    rows = [
        {"id": f"c{n}", "user": f"u{n}", "messages": [
            {"role": "user", "content": prompt[0].content},
            {"role": "assistant", "content": reply.text if n % 2 and reply else "Paper, I think.", "feedback": -1},
            {"role": "user", "content": "No, that is wrong."},
        ]}
        for n, (prompt, reply) in enumerate(zip(truth.prompts, own, strict=True))
    ]  # fmt: skip
    path, run = tmp_path / "logs.jsonl", tmp_path / "run"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    changes = {"recipe": {"own_majority": 5}, "policy": {"model": "embedded"}, "iterations": 1}
    cold = {"sampling": {"temperature": 0.01, "max_new_tokens": 32, "max_prompt_length": 512}}
    done = run_config(settings(path, tmp_path, **changes, **cold), run)
    prompts, believed = (list(read_jsonl(run / f"data/{name}.jsonl", PromptItem)) for name in ("prompts", "believed"))
    assert {item.rejected.content for item in believed if item.rejected} == {"Paper, I think."}
    assert len(prompts) > len(believed) > 0
    assert {pair.prompt_id for pair in read_jsonl(run / "iteration-1/pairs.jsonl", PreferencePair)} <= {
        item.prompt_id for item in believed
    }
    view = load_run(run)
    funnel = build_funnel(Store(next(iter(view.store_folders))), view)
    assert funnel.drops["against_majority"] == len(prompts) - len(believed)
    assert done.counts["complaints believed"] == len(believed)


@pytest.mark.parametrize("scorer", ["oracle", "noisy_oracle"])
def test_real_logs_have_no_oracle_and_the_run_says_so_before_any_work(tmp_path, logs, tiny_policy, scorer):
    cfg = settings(logs, tiny_policy, recipe={"scorer": {"name": scorer}})
    with pytest.raises(ConfigError, match=f"recipe.scorer.name: '{scorer}' needs the truth, which only the sandbox"):
        run_config(cfg, tmp_path / "run")
    assert not (tmp_path / "run" / "warm-start").exists()


def test_too_few_judged_replies_for_the_feedback_reward_end_the_run_before_any_work(tmp_path, logs, tiny_policy):
    recipe = {"name": "best_of", "samples": 2, "scorer": {"name": "feedback"}}
    with pytest.raises(DataError, match=r"too few judged replies for recipe\.scorer\.name: feedback"):
        run_config(settings(logs, tiny_policy, recipe=recipe), tmp_path / "run")
    assert not (tmp_path / "run/base").exists()


@pytest.mark.parametrize("wrong", ["nobody listens", "other model", "no reward model"])
def test_a_judge_or_a_reward_model_that_is_not_there_ends_the_run_before_any_work(
    tmp_path, logs, tiny_policy, serve, said, wrong
):
    server = serve(lambda path, *_: said({"data": [{"id": "tiny"}]}) if path == "/v1/models" else said.chat("A"))
    judges = {"nobody listens": "http://127.0.0.1:1/v1", "other model": server.url}
    scorer = {"name": "judge", "endpoint": {"base_url": judges.get(wrong), "model": "large"}}
    told = {"nobody listens": "no server answers", "other model": "does not serve the model 'large'. It serves: tiny"}
    if wrong == "no reward model":
        scorer = {"name": "reward_model", "model": str(tiny_policy)}  # its config is a chat model's, of two labels
    recipe = {"name": "best_of", "samples": 2, "scorer": scorer}
    with pytest.raises(PrerequisiteError, match=told.get(wrong, "has 2 outputs and a chat template")):
        run_config(settings(logs, tiny_policy, recipe=recipe), tmp_path / "run")
    assert not (tmp_path / "run/base").exists()


def test_a_run_that_has_sampled_goes_on_without_asking_its_judge(tmp_path, logs, tiny_policy, serve, said):
    """Nothing is left to score, so the server may be gone by then."""
    server = serve(lambda path, *_: said.chat("B" if "chat" in path else "no list"))
    scorer = {"name": "judge", "endpoint": {"base_url": server.url, "model": "judge", "retries": 0}}
    cfg = settings(logs, tiny_policy, recipe={"samples": 2, "scorer": scorer, "only_wins": False}, iterations=1)
    run_until(cfg, tmp_path / "run", "iteration-1/scores.jsonl")
    asked = len(server.chats())
    assert asked > 2
    run_until(cfg, tmp_path / "run", "iteration-1/policy")
    assert len(server.chats()) == asked


def test_held_out_requests_are_asked_although_their_replies_are_cut(tmp_path, logs, tiny_policy):
    """With `drop`, the pairs of cut replies teach nothing, but whether replies end is measured on every request."""
    measured = []
    for unfinished in ("drop", "match"):
        cut = {"max_new_tokens": 2, "max_prompt_length": 512, "unfinished": unfinished}
        cfg = settings(logs, tiny_policy, sampling=cut, warm_start={"epochs": 0})
        run_until(cfg, tmp_path / unfinished, "base/evaluation.json")
        replies = read_evaluation(tmp_path / unfinished / "base/evaluation.json").replies
        assert replies is not None
        each = [measure.model_copy(update={"asker": None}) for measure in replies.each]  # hashes of another store
        measured.append(replies.model_copy(update={"each": tuple(each)}))
    assert measured[0] == measured[1]
    assert measured[0].prompts >= 5


def test_liked_replies_that_are_empty_are_not_said_to_be_missing(tmp_path, tiny_policy):
    rows = [
        {"id": f"c{n}", "user": f"u{n}", "messages": [
            {"role": "user", "content": f"Add {n} and 2."},
            {"role": "assistant", "content": "" if n % 2 else f"{n}2", "feedback": 1 if n % 2 else -1},
            {"role": "user", "content": "Go on."},
        ]}
        for n in range(40)
    ]  # fmt: skip
    logs, notes = tmp_path / "logs.jsonl", []
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with listening(lambda *_: None, notes.append):
        run_until(settings(logs, tiny_policy, warm_start={"on": "liked"}), tmp_path / "run", "base/evaluation.json")
    assert (
        "warm_start.on: liked: the training split has no liked reply that can be learned from, so there is no SFT; "
        "labels.approval: phrases finds more of them"
    ) in notes
