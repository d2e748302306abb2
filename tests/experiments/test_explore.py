"""Exploration of real small policies: vectors, and the whole command with its map."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from drift.config import PolicySettings
from drift.endpoint.options import JudgePricing
from drift.errors import ConfigError, DataError, PrerequisiteError
from drift.evals.exploration.embed import embed
from drift.experiments.explore import ExploreSettings, estimate_exploration, explore
from drift.policy.model import load_policy
from drift.records import ChatMessage, Conversation, Message
from drift.rundir import RunDir
from drift.store import Store

PROMPT = (ChatMessage("user", "Sort: b a"),)


def test_hidden_states_are_unit_vectors_of_the_reply(tiny_policy):
    vectors = embed(str(tiny_policy), [PROMPT] * 3, ["a b", "a b", ""], "float32")
    assert vectors.shape == (3, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_the_oracle_of_the_toy_world_judges_no_other_run(tmp_path, tiny_policy):
    """Its figures would stand in the report of a run that learned from other chats."""
    with RunDir.open(tmp_path / "run", f"policy: {{model: {tiny_policy}}}", 1):
        pass
    with pytest.raises(ConfigError, match=r"the first toy world, and this run learned from other chats\. Name who"):
        explore([str(tmp_path / "run")], ExploreSettings(), tmp_path / "out")


def test_bad_input(tmp_path, tiny_policy):
    with pytest.raises(ConfigError, match="a run, or at least two"):
        explore([str(tiny_policy)], ExploreSettings(), tmp_path)
    with pytest.raises(ConfigError, match="named twice"):
        explore([str(tiny_policy)] * 2, ExploreSettings(), tmp_path)
    with pytest.raises(ConfigError, match="name one: --judge URL#MODEL"):
        estimate_exploration([str(tiny_policy), "embedded"], ExploreSettings(), tmp_path)
    sentences = tmp_path / "sentences"
    sentences.mkdir()
    (sentences / "modules.json").write_text("[]")
    with pytest.raises(PrerequisiteError, match="pip install sentence-transformers"):
        embed(str(sentences), [PROMPT], ["a"], "float32")


@pytest.fixture
def policies(tmp_path, tiny_policy) -> list[str]:
    """Two that answer differently."""
    policy = load_policy(tiny_policy, PolicySettings())
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(0.5)
    policy.model.save_pretrained(tmp_path / "other")
    policy.tokenizer.save_pretrained(tmp_path / "other")
    return [str(tiny_policy), str(tmp_path / "other")]


@pytest.fixture
def asked_of_a_judge(tmp_path, serve, said):
    """Settings and a server: requests of a store, and a judge that likes what holds an `a`."""
    store = Store(tmp_path / "store")
    chats = ((Message("user", f"say {n}"), Message("assistant", "logged")) for n in range(4))
    store.add(Conversation(f"c{n}", "s", None, messages, "test") for n, messages in enumerate(chats))

    def judge(path, body, number):
        shown = body["messages"][-1]["content"].split("<reply_b>")
        first = "a" in shown[0].rpartition("<reply_a>")[2].partition("</reply_a>")[0]
        return said.chat("C" if first == ("a" in shown[-1].partition("</reply_b>")[0]) else "A" if first else "B")

    server = serve(judge)
    settings = ExploreSettings(f"{server.url}#judge", store=tmp_path / "store", prompts=4, samples=3, max_new_tokens=8)
    return settings, server


def test_a_judge_is_estimated_first_and_never_passes_its_limit(tmp_path, policies, asked_of_a_judge):
    settings, server = asked_of_a_judge
    settings = replace(settings, pricing=JudgePricing(None, 1000.0, 1000.0, 0.01))
    estimate = estimate_exploration(policies, settings, tmp_path / "out")
    assert estimate.questions == 2 * 2 * 4 * 3  # both orders of every reply of both policies
    assert estimate.cost is not None
    notes: list[str] = []
    with pytest.raises(ConfigError, match="--max-cost"):
        explore(policies, settings, tmp_path / "out", notes.append)
    assert "questions to ask" in notes[0]
    assert server.chats() == []
    assert len(list((tmp_path / "out").glob("samples-*/shard-0001.jsonl"))) == 2  # the replies need not be made again


def test_prompts_that_fit_no_policy_are_told_before_the_judge_is_asked(tmp_path, policies, asked_of_a_judge):
    settings, server = asked_of_a_judge
    store = Store(tmp_path / "long")
    chats = ((Message("user", f"{n}" * 5000), Message("assistant", "logged")) for n in range(4))
    store.add(Conversation(f"c{n}", "s", None, messages, "test") for n, messages in enumerate(chats))
    with pytest.raises(DataError, match="only 0 of 4 prompts could be sampled"):
        explore(policies, replace(settings, store=store.path), tmp_path / "out")
    assert server.chats() == []


@pytest.mark.slow
def test_a_judge_rewards_what_beats_the_logs_and_is_asked_once(tmp_path, policies, asked_of_a_judge):
    pytest.importorskip("umap")
    settings, server = asked_of_a_judge
    done = explore(policies, settings, tmp_path / "out")
    assert done.prompts == 4
    assert "preference over the logs' own reply" in done.not_comparable[1]
    assert all(0 <= result.mean_reward <= 1 for result in done.methods.values())
    asked = len(server.chats())
    again = explore(policies, settings, tmp_path / "out")
    assert len(server.chats()) == asked  # not even whether it tells probabilities
    assert again == done


@pytest.mark.slow
def test_two_policies_on_one_map(tmp_path):
    pytest.importorskip("umap")
    settings = ExploreSettings(prompts=8, samples=3, max_new_tokens=16)
    done = explore(["embedded", "embedded-2"], settings, tmp_path)
    assert list(done.methods) == ["embedded", "embedded-2"]
    one, other = done.methods.values()
    for a, b in zip(one.map + one.raw, other.map + other.raw, strict=True):
        assert a.mass.value + b.mass.value == pytest.approx(1)
    assert list(one.coverage) == [1, 2, 3]
    kept = json.loads((tmp_path / "exploration.json").read_text())
    assert kept["methods"]["embedded"]["mean_reward"] == pytest.approx(one.mean_reward)
    assert (tmp_path / "exploration.svg").read_text().startswith("<?xml")
