import json
import re

import numpy as np
import pytest
import torch
import yaml

from comparisons import SMALL, settings
from drift.config import PolicySettings, Settings
from drift.errors import ConfigError, DataError, NothingToTrainOn
from drift.evaluation.results import (
    Evaluation,
    PairResult,
    PreferenceResult,
    ReplyMeasure,
    ReplyStatistics,
    SampleResult,
    write_result,
)
from drift.experiments.compare import cell as cell_module
from drift.experiments.compare.cell import (
    logs_run_of,
    require_all_iterations,
    shared_run_of,
    store_of,
    truth_of_other_kinds,
)
from drift.experiments.compare.results import step_kept_by_stop_rule
from drift.experiments.compare.run import Restriction, run_comparison, tune, with_rates
from drift.experiments.compare.settings import CompareSettings, arms_of, cells_of, merge
from drift.experiments.compare.stages import measure_distance, with_other_kinds
from drift.policy.chat import encode_completion, encode_prompt
from drift.policy.model import load_policy, source_of
from drift.records import ChatMessage, Reason
from drift.rundir.manifest import read_manifest
from drift.sandbox.instructions.constraints import KINDS
from drift.sandbox.instructions.users import UserSettings
from drift.statistics import bootstrap_runs


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


def test_cells_of_bases_with_a_dot_in_their_name_have_folders_of_their_own():
    cells = cells_of(arms_of(settings())[:1], (1,), ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.6B", "models/a.gguf"), "test")
    assert [cell.name for cell in cells] == ["Qwen2.5-0.5B-seed-1", "Qwen2.5-0.6B-seed-1", "a-seed-1"]


def test_bases_that_would_share_a_folder_are_refused():
    with pytest.raises(ConfigError, match="runs/a/policy and runs/b/policy are both called policy"):
        cells_of(arms_of(settings())[:1], (1,), ("runs/a/policy", "embedded", "runs/b/policy"), "test")
    with pytest.raises(ConfigError, match="embedded is named twice"):
        cells_of(arms_of(settings())[:1], (1,), ("embedded", "embedded"), "test")


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


def test_the_step_that_the_stop_rule_would_have_kept_is_by_the_ends_of_replies_too(tmp_path):
    (cell,) = cells_of(arms_of(settings())[:1], (1,), ("embedded",), "test")
    for step, share in (("warm-start", 1.0), ("iteration-1", 0.5)):
        each = tuple(ReplyMeasure(prompt=i, finished=i < share * 20, tokens=9, repetition=0) for i in range(20))
        replies = ReplyStatistics(
            prompts=20, finished=share, finished_low=share, finished_high=share, median_tokens=9, p90_tokens=9,
            repetition=0.0, each=each,
        )  # fmt: skip
        folder = cell.folder(tmp_path) / step
        folder.mkdir(parents=True)
        stop = PreferenceResult(
            accuracy=1, accuracy_low=1, accuracy_high=1, margin=0, logps_chosen=-1, pairs=6,
            each=tuple(
                PairResult(prompt_id=f"p{n}", right=True, margin=0, likelihood=0.7 - share / 5) for n in range(6)
            ),
        )  # fmt: skip
        write_result(folder / "evaluation.json", Evaluation(replies=replies, stop=stop))
    assert step_kept_by_stop_rule(cell, tmp_path) == 0  # by the likelihoods alone: 1


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
