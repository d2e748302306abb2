import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from drift.config import PolicySettings, Settings
from drift.errors import ConfigError, DataError, NothingToTrainOn
from drift.evaluation.results import Evaluation, SampleResult, write_result
from drift.experiments.compare import cell as cell_module
from drift.experiments.compare.cell import (
    logs_run_of,
    require_all_iterations,
    shared_run_of,
    store_of,
    truth_of_other_kinds,
)
from drift.experiments.compare.run import Restriction, run_comparison, tune, with_rates
from drift.experiments.compare.settings import CompareSettings, arms_of, cells_of, load_comparison, merge
from drift.experiments.compare.stages import measure_distance, with_other_kinds
from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.model import load_policy, source_of
from drift.records import ChatMessage, Reason
from drift.rundir.manifest import read_manifest
from drift.sandbox.instructions.constraints import KINDS
from drift.sandbox.instructions.users import UserSettings
from drift.statistics import bootstrap_runs

SMALL = {
    "seeds": [1],
    "bases": ["embedded"],
    "workers": 1,
    "rates": [1e-4, 2e-4],
    "shared": {
        "deployment": {"turns": 1500},
        "iterations": 1,
        "sampling": {"max_new_tokens": 32, "max_prompt_length": 512},
        "warm_start": {"epochs": 1, "optimizer": "adamw_torch"},
        "training": {"learning_rate": 1e-4, "optimizer": "adamw_torch", "batch_size": 8},
        "recipe": {"pairs": 16},
        "evaluation": {"temperatures": [1.0, 0.0], "max_prompts": 20},
    },
    "arms": {
        "drift": {},
        "spin": {"recipe": {"name": "spin"}},
        "kto": {"recipe": {"name": "unpaired"}, "training": {"loss": "kto"}},
        "best_of_two": {
            "sampling": {"temperature": 1.0, "top_p": 1.0},  # two guided replies at 0.7 are the same for all 28 prompts
            "recipe": {"name": "iter_dpo", "guided_share": 0.5, "samples": 2, "scorer": {"name": "oracle"}},
        },
    },
    "differences": [["drift", "spin"]],
}


COMPARISONS = [
    path for path in sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml")) if "\narms:" in path.read_text()
]


def settings(**changes) -> CompareSettings:
    return CompareSettings.model_validate({"name": "test", **SMALL, **changes})


def test_an_arm_changes_what_it_names_and_nothing_else():
    drift, spin, *_ = arms_of(settings())
    assert spin.cfg.recipe.name == "spin"
    assert spin.cfg.recipe.pairs == drift.cfg.recipe.pairs == 16
    assert spin.cfg.training == drift.cfg.training
    assert drift.deployment.turns == 1500
    assert drift.cfg.stop.rule == "none"  # a comparison shows whole curves


def test_an_arm_that_ended_early_is_not_set_beside_the_others(tmp_path):
    (tmp_path / "iteration-1").mkdir()
    (tmp_path / "iteration-1/evaluation.json").write_text("{}")
    require_all_iterations(tmp_path, 1)
    with pytest.raises(DataError, match="ended before iteration 2 of 3"):
        require_all_iterations(tmp_path, 3)


def test_an_arm_without_a_pair_says_what_became_of_the_replies(tmp_path, monkeypatch):
    (cell,) = cells_of(arms_of(settings())[:1], (1,), ("embedded",), "test")
    logs = logs_run_of(cell, tmp_path) / "deployment" / "logs"
    logs.mkdir(parents=True)
    (logs / "chats.jsonl").write_text("{}\n")
    shared_run_of(cell, tmp_path).mkdir()

    def finds_no_pair(*_):
        raise NothingToTrainOn("pairs.jsonl: the file is empty.")

    monkeypatch.setattr(cell_module, "drift", finds_no_pair)
    with pytest.raises(DataError, match=r"the file is empty\. The funnel: 0 conversations"):
        cell_module.run_cell(cell, tmp_path)


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_every_shipped_comparison_loads(path):
    shipped = load_comparison(path)
    arms = arms_of(shipped)
    assert len({arm.cfg.recipe.pairs for arm in arms}) == 1
    assert not set(shipped.seeds) & set(shipped.tune_seeds)


def test_merging_goes_key_by_key():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "e": 5}) == {"a": {"b": 1, "c": 4}, "d": 3, "e": 5}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arms": {"a": {"trainig": {}}}}, "arm a: trainig: unknown setting; did you mean 'training'"),
        ({"arms": {"a": {"deployment": {"turns": 0}}}}, "arm a: deployment.turns"),
        ({"arms": {"a": {"recipe": {"name": "iter_dpo"}}}}, "arm a: recipe: iter_dpo ranks"),
        ({"arms": {"a": {"training": {"loss": "kto"}}}}, "arm a: training.loss=kto learns from replies without a par"),
        ({"differences": [["drift", "nobody"]]}, "no arm 'nobody'"),
        ({"arms": {"a": {"deployment": None}}}, "arm a: deployment: Input should be a valid dictionary"),
        ({"arms": {"a": {"deployment": {"turn": 1}}}}, "arm a: deployment.turn: unknown setting; did you mean 'turns'"),
        ({"arms": {"a": {"deployment": {"noise": 0.1, "world": "instructions"}}}}, "arm a: deployment.noise: the inst"),
        ({"arms": {"a": {"deployment": {"users": {"thanks": 1}}}}}, "arm a: deployment.users: only the instructions w"),
        (
            {"arms": {"a": {}, "b": {"evaluation": {"max_prompts": 9}}}},
            "arm b: evaluation.max_prompts: 9, and arm a has 20",
        ),
        (
            {"arms": {"a": {}, "b": {"evaluation": {"temperatures": [1]}}}},
            "arm b: evaluation.temperatures: .* set it und",
        ),
        (
            {"arms": {"a": {}, "b": {"deployment": {"world": "long"}}}},
            "arm b: deployment.world: long, and arm a has fir",
        ),
        ({"arms": {"a": {"evaluation": {"temperatures": []}}}}, "shared: evaluation.temperatures: names none; set"),
        (
            {"arms": {"a": {"evaluation": {"temperatures": [-1]}}}},
            "arm a: evaluation.temperatures.0: Input should be gr",
        ),
        ({"arms": {"a": {"seed": 3}}}, "arm a: seed: an arm cannot set it: set `seeds` at the top of the file"),
        ({"arms": {"a": {"policy": {"model": "b"}}}}, "arm a: policy.model: an arm cannot set it: name the models in"),
    ],
)
def test_a_wrong_arm_is_named(changes, told):
    with pytest.raises(ConfigError, match=told):
        arms_of(settings(**{"differences": [], **changes}))


def test_cells_of_bases_with_a_dot_in_their_name_have_folders_of_their_own():
    cells = cells_of(arms_of(settings())[:1], (1,), ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.6B", "models/a.gguf"), "test")
    assert [cell.name for cell in cells] == ["Qwen2.5-0.5B-seed-1", "Qwen2.5-0.6B-seed-1", "a-seed-1"]


def test_bases_that_would_share_a_folder_are_refused():
    with pytest.raises(ConfigError, match="runs/a/policy and runs/b/policy are both called policy"):
        cells_of(arms_of(settings())[:1], (1,), ("runs/a/policy", "embedded", "runs/b/policy"), "test")
    with pytest.raises(ConfigError, match="embedded is named twice"):
        cells_of(arms_of(settings())[:1], (1,), ("embedded", "embedded"), "test")


def test_a_missing_or_broken_config_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such config"):
        load_comparison(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("seeds: [x]\narms: {a: {}}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: seeds"):
        load_comparison(tmp_path / "a.yaml")
    for text, told in (
        ("- 1\n", "a comparison is a mapping of keys to values, not a list"),
        ("", "a comparison is a mapping of keys to values, not nothing"),
        ("iterations: 2\narms: {a: {}}\n", "iterations: a setting of a run, which .* did you mean 'shared.iterations'"),
        ("seed: [2]\narms: {a: {}}\n", "seed: a setting of a run"),
        ("worker: 2\narms: {a: {}}\n", "worker: unknown setting; did you mean 'workers'"),
        ("seeds: [1, 2, 1]\narms: {a: {}}\n", "seeds: 1 stands twice; keep one"),
        ("seeds: [-1]\narms: {a: {}}\n", "seeds.0: Input should be greater than or equal to 0"),
        ("arms: {a: {}, a: {iterations: 3}}\n", "the key 'a' stands twice in line 1"),
        ("arms: {a@b: {}}\n", "arms: 'a@b' cannot name an arm"),
        ("arms: {../b: {}}\n", "arms: '../b' cannot name an arm"),
    ):
        (tmp_path / "b.yaml").write_text(text)
        with pytest.raises(ConfigError, match=rf"b\.yaml: .*{told}"):
            load_comparison(tmp_path / "b.yaml")


def test_tuning_never_uses_the_seeds_that_are_reported_on(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**SMALL, "tune_seeds": [1]}))
    with pytest.raises(ConfigError, match="overlaps seeds"):
        tune(tmp_path / "c.yaml", tmp_path / "out")
    with pytest.raises(ConfigError, match="--seed is not for --tune, which has seeds of its own: set tune_seeds"):
        tune(tmp_path / "c.yaml", tmp_path / "out", Restriction(seeds=(3,)))
    names = [arm.name for arm in with_rates(arms_of(settings())[:1], [1e-4, 2e-4])]
    assert names == ["drift@0.0001", "drift@0.0002"]


def test_arms_share_what_stands_before_their_first_iteration(tmp_path):
    hotter = {**SMALL["arms"], "noisy": {"deployment": {"noise": 0.2}}, "fast": {"training": {"learning_rate": 1e-2}}}
    cells = cells_of(arms_of(settings(arms=hotter)), (1,), ("embedded",), "test")
    shared_runs = {cell.arm: shared_run_of(cell, tmp_path) for cell in cells}
    assert shared_runs["drift"] == shared_runs["spin"] == shared_runs["fast"] != shared_runs["noisy"]
    (validation,) = cells_of(arms_of(settings())[:1], (1,), ("embedded",), "validation")
    assert shared_run_of(validation, tmp_path) != shared_runs["drift"]


def test_settings_of_ingestion_are_part_of_what_is_shared(tmp_path):
    kept = {**SMALL["arms"], "raw": {"ingestion": {"redact": False}}}
    cells = {cell.arm: cell for cell in cells_of(arms_of(settings(arms=kept)), (1,), ("embedded",), "test")}
    shared_runs = {arm: shared_run_of(cell, tmp_path) for arm, cell in cells.items()}
    assert shared_runs["raw"] != shared_runs["drift"] == shared_runs["spin"]


def test_arms_with_other_warm_starts_share_the_logs_alone(tmp_path):
    liked = {**SMALL["arms"], "liked": {"warm_start": {"on": "liked"}}}
    cells = {cell.arm: cell for cell in cells_of(arms_of(settings(arms=liked)), (1,), ("embedded",), "test")}
    assert shared_run_of(cells["liked"], tmp_path) != shared_run_of(cells["drift"], tmp_path)
    assert logs_run_of(cells["liked"], tmp_path) == logs_run_of(cells["drift"], tmp_path)


@pytest.mark.parametrize(
    ("users", "told"),
    [
        ({"thank": 1}, "arm a: deployment.users: no setting 'thank' of the users; there are thanks, complaints"),
        ({"thanks": 2}, "arm a: deployment.users: thanks: 2.0 is not a share; allowed: 0 to 1"),
        ({"thanks": "lots"}, "arm a: deployment.users.thanks: Input should be a valid number"),
        ({"thanks": None}, "arm a: deployment.users.thanks: Input should be a valid number"),
        ({"kinds": ["rhymes"]}, "arm a: deployment.users: kinds: rhymes gives no requests; allowed: "),
        ({"kinds": "one_line"}, "arm a: deployment.users.kinds: Input should be a valid tuple, not 'one_line'"),
        ({"kinds": [1]}, "arm a: deployment.users.kinds.0: Input should be a valid string"),
        (3, "arm a: deployment.users: "),
    ],
)
def test_a_wrong_setting_of_the_users_is_named(users, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        arms_of(settings(arms={"a": {"deployment": {"world": "instructions", "users": users}}}))


@pytest.mark.parametrize(
    ("deployment", "told"),
    [
        ({"world": "instructions"}, "other_kinds: these users ask for every kind of constraint"),
        ({}, "other_kinds: the world first has no kinds of requests; set 0."),
    ],
)
def test_other_kinds_of_requests_need_users_who_do_not_ask_for_them(deployment, told):
    (arm,) = arms_of(settings(shared={"deployment": deployment}, arms={"a": {}}, differences=[]))
    (cell,) = cells_of([arm], (1,), ("embedded",), "test", other_kinds=3)
    with pytest.raises(ConfigError, match=re.escape(told)):
        truth_of_other_kinds(cell)


def test_users_with_other_kinds_ask_for_what_is_left():
    others = set(with_other_kinds(UserSettings(kinds=("max_words", "shorter"))).kinds)
    assert others == {name for name, kind in KINDS.items() if not kind.relative} - {"max_words"}


def test_the_distance_of_a_policy_from_its_base_is_the_mean_log_ratio_of_its_own_replies(tmp_path):
    """Against torch's plain forward: two replies, one of which is empty and does not count."""
    policy, base = (source_of(name) for name in ("embedded", "embedded-2"))
    prompt = (ChatMessage("user", "spell cat"),)
    samples = (SampleResult(prompt=prompt, completion="c a t"), SampleResult(prompt=prompt, completion=""))
    write_result(tmp_path / "evaluation.json", Evaluation(samples=samples))

    def distance(of, against):
        out = tmp_path / "distance.json"
        counts = measure_distance(out, of, against, tmp_path / "evaluation.json", PolicySettings(model="embedded"), 256)
        assert counts["replies"] == 1
        (nats,) = json.loads(out.read_text())["each"]
        return nats

    def plain(model):
        loaded = load_policy(model, PolicySettings(model="embedded"))
        completion = encode_completion(loaded.chat, prompt, ChatMessage("assistant", "c a t"), "length")
        start = encode_prompt(loaded.chat, prompt, 200)
        assert not isinstance(start, Reason)
        ids = torch.tensor([[*start.ids, *completion]], device=loaded.device)
        with torch.no_grad():
            logps = loaded.model(ids).logits[0].float().log_softmax(-1)[len(start.ids) - 1 : -1]
        return logps.gather(1, ids[0, len(start.ids) :, None]).mean().item()

    assert distance(policy, policy) == 0.0
    assert distance(policy, base) == pytest.approx(plain(policy) - plain(base), abs=2e-4)
    assert distance(base, policy) == pytest.approx(-distance(policy, base))


@pytest.mark.slow
def test_a_comparison_in_the_instructions_world_tells_truth_by_part_and_what_it_gained_over_the_base(tmp_path):
    """A policy of the first world answers in the instructions world: never right, but all of it is measured."""
    users = {"thanks": 1.0, "kinds": ["max_words", "sentences"], "two_constraints": 0.0, "three_constraints": 0.0}
    shared = {
        **SMALL["shared"],
        "deployment": {"world": "instructions", "turns": 120, "users": users},
        "sampling": {"max_new_tokens": 12, "max_prompt_length": 400},
        "evaluation": {"temperatures": [0.7], "max_prompts": 6},
        "recipe": {"pairs": 8, "guided_share": 0.0},
    }
    config = tmp_path / "c.yaml"
    comparison = {**SMALL, "shared": shared, "arms": {"drift": {}}, "differences": [], "other_kinds": 5}
    config.write_text(yaml.safe_dump(comparison))
    done = run_comparison(config, tmp_path / "out")
    result = done.comparison.arms["drift"]
    assert set(result.parts) == {
        "constraints hold", "finished", "not degenerate", "on topic", "right: max_words", "right: sentences",
    }  # fmt: skip
    assert set(result.over_base) == set(result.warm_start_over_base) == {"0.7"}
    assert len(result.coverage) == 1
    assert result.sampled_tokens > 0
    assert result.forwards == (16, 16)  # 8 pairs, one epoch, one reference
    text = (tmp_path / "out/results.md").read_text()
    assert "| right: max_words |" in text
    assert "over the base, T 0.7" in text
    assert result.distance
    assert result.distance[1] <= result.distance[0] <= result.distance[2]
    assert set(result.other_kinds_over_base) == {"0.7"}
    kinds = {part for part in result.other_kinds if part.startswith("right: ")}
    assert kinds
    assert not kinds & {"right: max_words", "right: sentences"}
    assert "| other kinds of requests over the base, T 0.7 |" in text
    page = (tmp_path / "out/report.html").read_text()
    assert "What the truth is made of" in page
    assert "Kinds that no user in the logs asks for." in page


def test_a_cell_reads_the_store_of_the_logs_as_they_are_with_the_split_that_it_names(tmp_path):
    shared = {**SMALL["shared"], "evaluation": {"split": "time"}}
    (cell,) = cells_of(arms_of(settings(shared=shared))[:1], (1,), ("embedded",), "test")
    logs_run = logs_run_of(cell, tmp_path)
    logs = logs_run / "deployment" / "logs"
    logs.mkdir(parents=True)
    (logs / "chats.jsonl").write_text("{}\n")
    before = store_of(cell, tmp_path)
    (logs / "chats.jsonl").write_text("{} \n")
    after = store_of(cell, tmp_path)
    assert (before.path.parent, after.path.parent) == (logs_run / "store",) * 2
    assert before.path != after.path
    assert after.split_by == "time"


def test_intervals_over_runs_and_prompts_cover_both():
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=(1, 200))
    same, apart = np.repeat(prompts, 5, axis=0), prompts + rng.normal(size=(5, 1))
    narrow, wide = bootstrap_runs(same), bootstrap_runs(apart)
    assert narrow.low < narrow.value < narrow.high
    assert narrow.value == pytest.approx(prompts.mean())
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * prompts.std() / 200**0.5, rel=0.15)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    difference = bootstrap_runs(same - same)
    assert (difference.low, difference.high) == (0.0, 0.0)


def test_settings_of_a_comparison_are_read():
    assert CompareSettings in Settings.__subclasses__()


@pytest.mark.slow
def test_a_small_comparison_end_to_end(tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    done = run_comparison(config, tmp_path / "out")
    arms = done.comparison.arms
    assert list(arms) == ["drift", "spin", "kto", "best_of_two"]
    assert all(
        len(arm.utility) == 1 and arm.utility[0][1] <= arm.utility[0][0] <= arm.utility[0][2] for arm in arms.values()
    )
    assert {arm.pairs for arm in arms.values()} == {(16,)}
    assert {arm.updates for arm in arms.values()} == {(2,)}
    assert arms["best_of_two"].p_imp == (1.0,)  # the oracle ranks by what is measured
    assert arms["kto"].p_imp == ()
    assert arms["kto"].forwards == (48, 16)  # z0 reads another reply to each of 16 requests, twice
    assert arms["drift"].forwards == arms["best_of_two"].forwards == (32, 32)  # the oracle reads nothing
    assert "no pairs" in (tmp_path / "out" / "results.md").read_text()
    assert len({arm.warm_start for arm in arms.values()}) == 1
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["arms"]["drift"]["utility"] == [list(arms["drift"].utility[0])]
    assert (tmp_path / "out" / "utility.svg").stat().st_size > 0
    assert "drift - spin" in (tmp_path / "out" / "results.md").read_text()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    again = run_comparison(config, tmp_path / "out").comparison
    assert again.model_copy(update={"seconds": 0}) == done.comparison.model_copy(update={"seconds": 0})
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    # who ranks the same fresh replies does not sample them again
    by_itself = merge(SMALL["arms"]["best_of_two"], {"recipe": {"scorer": {"name": "self"}}})
    config.write_text(yaml.safe_dump({**SMALL, "arms": {**SMALL["arms"], "by_itself": by_itself}}, sort_keys=False))
    run_comparison(config, tmp_path / "out", Restriction(arms=("by_itself",)))
    first, second = (
        read_manifest(next((tmp_path / "out/cells" / arm).glob("*/iteration-1"))).stages
        for arm in ("best_of_two", "by_itself")
    )
    assert first["completions.jsonl"] == second["completions.jsonl"]
    assert first["scores.jsonl"] != second["scores.jsonl"]
