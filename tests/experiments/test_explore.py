"""Exploration of real small policies: vectors, and the whole command with its map."""

import json

import numpy as np
import pytest

from drift.errors import ConfigError, PrerequisiteError
from drift.evaluation.exploration.embed import embed
from drift.experiments.explore import ExploreSettings, explore
from drift.records import ChatMessage

PROMPT = (ChatMessage("user", "Sort: b a"),)


def test_hidden_states_are_unit_vectors_of_the_reply(tiny_policy):
    vectors = embed(str(tiny_policy), [PROMPT] * 3, ["a b", "a b", ""], "float32")
    assert vectors.shape == (3, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_bad_input(tmp_path, tiny_policy):
    with pytest.raises(ConfigError, match="at least two"):
        explore([str(tiny_policy)], ExploreSettings(), tmp_path)
    with pytest.raises(ConfigError, match="named twice"):
        explore([str(tiny_policy)] * 2, ExploreSettings(), tmp_path)
    sentences = tmp_path / "sentences"
    sentences.mkdir()
    (sentences / "modules.json").write_text("[]")
    with pytest.raises(PrerequisiteError, match="pip install sentence-transformers"):
        embed(str(sentences), [PROMPT], ["a"], "float32")


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
