"""`drift run --plan`: what would be done, before anything is done."""

import json
import math
from pathlib import Path

import pytest

from command import drift
from drift.config import Config, parse_config
from drift.errors import DataError
from drift.feedback.label import label_store
from drift.logs.ingest import ingest
from drift.plan import make_plan
from drift.plan.costs import ModelCosts
from drift.plan.rows import Rows
from drift.plan.stages import Stages
from drift.plan.weights import count_weights
from drift.records import Counts, ReadMark
from drift.rundir import RunDir
from drift.store import Store

CHAT = [
    {"role": "user", "content": "Sort these words: pear fig"},
    {"role": "assistant", "content": "pear fig", "feedback": -1},
    {"role": "user", "content": "No, that is wrong."},
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"id": str(number), "messages": CHAT}) + "\n" for number in range(50)))
    return path


def config(**changes: object) -> Config:
    tree = {
        "iterations": 3,
        "policy": {"model": "someone/chat-7B-instruct"},
        "sampling": {"max_new_tokens": 200, "max_prompt_length": 500},
        "training": {"batch_size": 4, "max_length": 700},
        "warm_start": {"epochs": 0},
    }
    return parse_config(tree | changes, "test")


def test_rows_tokens_and_hours_before_anything_is_known(log: Path, tmp_path: Path):
    with log.open("ab") as more:
        more.write(b" " * (40_351_000 - log.stat().st_size))  # 10,000 conversations of the measured length
    plan = make_plan(config(logs=[str(log)]), tmp_path / "run")
    stages = {stage.name: stage for stage in plan.stages}
    assert (plan.weights, not any(stage.kept for stage in plan.stages)) == (7e9, True)
    assert (stages["ingestion"].rows, stages["ingestion"].pieces) == (10_000, 2)  # pieces of 32 MiB
    assert stages["ingestion"].core_hours == pytest.approx(2.014833 / 3600)
    assert stages["data/prompts.jsonl"].rows == 2134  # 124 of 581
    sampled = stages["iteration-1..3/completions.jsonl"]
    assert (sampled.rows, sampled.stages) == (2134, 3)
    replies = 3 * 10_000 * 124 / 581
    assert sampled.tokens == pytest.approx(replies * (500 + 200), abs=1)  # the assumed lengths exceed the limits
    assert sampled.tokens_at_most == pytest.approx(replies * 700, abs=1)
    hours = replies * (200 / 8000 + 500 * 2 * 7e9 / 395.6e12) / 3600
    assert sampled.gpu_hours == pytest.approx(hours)
    training = stages["iteration-1..3/policy"]
    assert (training.pieces, training.piece) == (534, "step of 4 pairs")
    assert training.tokens == pytest.approx(replies * (500 + 2 * 200), abs=1)
    assert any("581 real chats" in text for text in plan.assumptions)
    assert not (tmp_path / "run").exists()


def test_a_labelled_store_is_counted_and_not_guessed(log: Path, tmp_path: Path):
    store = Store(tmp_path / "store")
    ingest([log], store)
    label_store(store)
    plan = make_plan(config(store=str(store.path)), tmp_path / "run")
    stages = {stage.name: stage for stage in plan.stages}
    assert "ingestion" not in stages
    assert stages["labels"].rows == 50
    assert stages["data/prompts.jsonl"].rows == 40  # 50 thumbs down, of which 80 % are for training
    assert "DSAT: 50 labels in the store, of which 80% are for training" in plan.assumptions
    assert not any("581" in text for text in plan.assumptions if text.startswith("disliked"))


@pytest.mark.parametrize(
    ("recipe", "fresh", "tried"),
    [
        ({"guided_share": 1}, 700 + 300 + 200, None),  # the request, the disliked reply and the complaint
        ({"guidance": "hint"}, 700 + 200, None),
        ({"guided_share": 0.5}, 700 + 500 / 2, None),
        ({"guided_share": 0}, 700, None),
        ({"name": "spin"}, 700, None),  # nobody complained about these replies
        ({"guided_share": "auto"}, 1200, 700 + 500 / 2),
    ],
)
def test_prompts_are_as_long_as_what_the_recipe_shows(recipe: dict, fresh: float, tried: float | None):
    cfg = config(recipe=recipe, sampling={"max_new_tokens": 300, "max_prompt_length": 2000})
    planned = Stages(cfg, Rows(0, 0, 1000, stored=1000, labels={}, kept={}), ModelCosts(7e9)).planned()
    tokens = {stage.name: stage.tokens / stage.rows for stage in planned if stage.name.endswith("completions.jsonl")}
    assert tokens["iteration-1/completions.jsonl"] == pytest.approx(fresh + 300)
    assert tokens["heldout/completions.jsonl"] == pytest.approx(1200 + 300), "guided for every recipe"
    assert tokens.get("guidance-1/completions.jsonl") == (tried and pytest.approx(tried + 300))


@pytest.mark.parametrize(("lora", "factor"), [({}, 4 / 6), (None, 1.0)])
@pytest.mark.parametrize("own_model", [None, "someone/other-3B"])
def test_a_feedback_reward_costs_what_is_trained_of_it(lora: dict | None, factor: float, own_model: str | None):
    """An adapter as the policy's, also on a model of its own; it never computes forward twice."""
    recipe = {"name": "best_of", "samples": 2, "scorer": {"name": "feedback", "model": own_model}}
    cfg = config(recipe=recipe, policy={"model": "someone/chat-7B", "lora": lora})
    model = ModelCosts(7e9, lora=lora is not None, checkpointing=True)
    stages = Stages(cfg, Rows(0, 0, 1000, stored=1000, labels={}, kept={}), model).planned()
    reward = next(stage for stage in stages if stage.name == "iteration-1/feedback-reward")
    whole = ModelCosts(3e9 if own_model else 7e9).training(reward.tokens, 0)
    assert reward.cost.gpu_hours == pytest.approx((whole.gpu_hours or 0) * factor)
    assert (reward.cost.written == 0) is (lora is not None)


def test_a_chain_replays_no_follow_ups():
    rows = Rows(0, 0, conversations=100, stored=100, labels={"DSAT": 40}, kept={})
    replayed = config(**{"from": "runs/before"}, generation={"replay": 0.5})
    assert rows.for_recipe(replayed) == 2 * rows.prompts()
    followed = {"recipe": {"name": "follow_up"}, "training": {"loss": "self_distillation"}}
    assert rows.for_recipe(config(**{"from": "runs/before"}, generation={"replay": 0.5}, **followed)) == rows.followed()


def test_a_generation_counts_what_came_since_the_run_before(tmp_path: Path):
    """50 complaints were there, 10 came and were labelled, and the logs bring about one conversation more."""
    store, run = Store(tmp_path / "store"), tmp_path / "runs/1"
    for name, chats in (("first", range(50)), ("second", range(50, 60))):
        rows = [{"id": str(n), "messages": [{**CHAT[0], "content": f"Sort {n} words"}, *CHAT[1:]]} for n in chats]
        (tmp_path / name).with_suffix(".jsonl").write_text("\n".join(map(json.dumps, rows)))
        ingest([tmp_path / f"{name}.jsonl"], store)
        label_store(store)
        if name == "first":
            with RunDir.open(run, f"store: {store.path}\npolicy: {{model: someone/chat-7B-instruct}}\n", 1) as opened:
                opened.pin_reading(1, store.store_id(), (ReadMark(store.read_up_to(), 50),))
                opened.stage("policy", keep)
    logs = tmp_path / "third.jsonl"
    logs.write_text(json.dumps({"id": "new", "messages": CHAT}))
    for named, read in (([], 0), ([str(logs)], 1)):
        cfg = config(**{"from": str(run)}, logs=named, store=str(store.path), generation={"replay": 0.5})
        plan = make_plan(cfg, tmp_path / "runs/2")
        rows = {stage.name: stage.rows for stage in plan.stages}
        news = 10 * 0.8 + read * 124 / 581
        assert rows["data/prompts.jsonl"] == round(news)
        assert rows["iteration-1..3/completions.jsonl"] == round(2 * news)  # half of them are replayed
        assert rows["data/heldout.jsonl"] == round(news * 0.25 + 50 * 0.2)  # of the whole chain
        assert rows["labels"] == 10 + read
        (known,) = (text for text in plan.assumptions if text.startswith("conversations since"))
        assert ("10 stored" in known, "about 1 in the logs" in known) == (True, bool(read))


def keep(out: Path) -> Counts:
    out.mkdir()
    (out / "config.json").write_text("{}")
    return {"iteration": 0}


def test_servers_have_a_price_and_no_hours(log: Path, tmp_path: Path):
    server = {"base_url": "http://localhost:1/v1", "model": "m"}
    server |= {"price_per_million_input": 1.0, "price_per_million_output": 10.0}
    sampling = {"max_new_tokens": 200, "max_prompt_length": 500, "backend": "endpoint", "endpoint": server}
    plan = make_plan(config(logs=[str(log)], sampling=sampling), tmp_path / "run")
    sampled = next(stage for stage in plan.stages if stage.name.endswith("3/completions.jsonl"))
    replies = 3 * math.ceil(log.stat().st_size / 4035.1) * 124 / 581
    assert sampled.price == pytest.approx(replies * (500 * 1.0 + 200 * 10.0) / 1e6)
    assert (sampled.gpu_hours, sampled.note) == (0, "requests to http://localhost:1/v1")


def test_missing_logs_are_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        make_plan(config(logs=[str(tmp_path / "none.jsonl")]), tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7e9),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6),
        ("meta/Llama-3.1-8b", 8e9),
        ("someone/Mixtral-8x7B", None),
        ("someone/chat", None),
    ],
)
def test_weights_of_models_that_are_not_here(name: str, weights: float | None):
    assert count_weights(name)[0] == weights


def test_weights_of_the_embedded_policy_are_counted():
    weights, how = count_weights("embedded")
    assert (how, weights is not None and 100_000 < weights < 3_000_000) == ("counted in its files", True)


def test_the_command_prints_a_plan_and_does_nothing(log: Path, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"logs: ['{log}']\niterations: 2\npolicy: {{model: someone/unnamed}}\n")
    done = drift("run", file, "--plan", "--json", cwd=tmp_path)
    plan = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert plan["run"].startswith("runs/mine-")
    assert plan["total"]["gpu_hours"] is None  # nobody knows how large the model is
    assert "unknown" in done.stderr
    assert plan["constants"]["labels"]["unit"] == "core-seconds per conversation"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "mine.yaml"]


def test_a_plan_without_logs_says_what_the_run_would_say(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("iterations: 1\n")
    done = drift("run", file, "--plan", cwd=tmp_path)
    assert done.returncode == 1
    assert "has no conversations. Set chat logs: --set logs='[PATH]'." in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml"]
