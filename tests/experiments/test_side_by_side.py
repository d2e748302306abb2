"""Two policies serve the same users, and the live readout finds the better one."""

import pytest

from drift.experiments.demo import demo_config, run_demo
from drift.experiments.simulation import simulate_side_by_side
from drift.feedback.label import label_store
from drift.live.readout import read_live
from drift.logs.ingest import ingest
from drift.policy.model import source_of
from drift.records import read_jsonl, write_jsonl
from drift.rundir import layout
from drift.sandbox.deployment import Reaction
from drift.store import Store


def test_each_chat_is_answered_by_one_of_the_two(tmp_path):
    cfg = demo_config(seed=1, base=1, out=tmp_path / "run")
    policies = {"one": source_of("embedded"), "two": source_of("embedded-2")}
    counts = simulate_side_by_side(tmp_path, policies, cfg.policy, cfg.sampling, turns=60, seed=5)
    store = Store(tmp_path / "store")
    ingest([tmp_path / "logs"], store)
    chats = list(store.conversations())
    served = {name: [chat for chat in chats if chat.model == name] for name in policies}
    assert counts["chats"] == len(chats) == len({chat.source_id for chat in chats})
    assert {name: len(its) for name, its in served.items()} == {"one": counts["chats.one"], "two": counts["chats.two"]}
    assert all(len(its) > 10 for its in served.values())
    assert sum(message.role == "assistant" for chat in chats for message in chat.messages) == counts["replies"] == 60
    days = [{chat.started_at and chat.started_at[:10] for chat in its} for its in served.values()]
    assert days[0] == days[1]


@pytest.mark.slow
def test_the_readout_finds_the_trained_policy(tmp_path):
    run_demo(seed=1, base=1, out=tmp_path / "demo")
    cfg = demo_config(seed=1, base=1, out=tmp_path / "demo")
    policies = {"base": source_of(cfg.policy.model), "trained": tmp_path / "demo" / layout.POLICY}
    simulate_side_by_side(tmp_path, policies, cfg.policy, cfg.sampling, turns=4000, seed=1)
    store = Store(tmp_path / "store")
    ingest([tmp_path / "logs"], store)
    label_store(store)
    gold = tmp_path / "gold.jsonl"
    write_jsonl(gold, list(read_jsonl(tmp_path / "truth.jsonl", Reaction))[::5])
    (plain,) = read_live(store, against="base").comparisons
    (corrected,) = read_live(store, against="base", gold=gold).comparisons
    assert (plain.kind, plain.verdict, corrected.verdict) == ("same period", "better", "better")
    assert corrected.difference.value < plain.difference.value < 0
