"""What a comparison's config may say, and the line that names what it may not."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from comparisons import settings
from drift.cli import app
from drift.errors import ConfigError
from drift.experiments.compare.settings import arms_of, load_comparison, merge

COMPARISONS = [
    path for path in sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml")) if "\narms:" in path.read_text()
]


def test_an_arm_changes_what_it_names_and_nothing_else():
    drift, spin, *_ = arms_of(settings())
    assert spin.cfg.recipe.name == "spin"
    assert spin.cfg.recipe.pairs == drift.cfg.recipe.pairs == 16
    assert spin.cfg.training == drift.cfg.training
    assert drift.deployment.turns == 1500
    assert drift.cfg.stop.rule == "none"  # a comparison shows whole curves


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
        ({"arms": {"a": {"deployment": None}}}, "arm a: deployment: Input should be a section of settings"),
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
        (
            {"arms": {"a": {}, "b": {"evaluation": {"samples": 2}}}},
            "arm b: evaluation.samples: 2, and arm a has 1; .* set it under `shared`",
        ),
        (
            {"arms": {"a": {}, "b": {"sampling": {"max_new_tokens": 3}}}},
            "arm b: sampling.max_new_tokens: 3, and arm a has 32; all arms answer .* in the same way",
        ),
        (
            {"arms": {"a": {}, "b": {"sampling": {"max_prompt_length": 99}}}},
            "arm b: sampling.max_prompt_length: 99, and arm a has 512",
        ),
        (
            {"shared": {"deployment": {"world": "instructions"}}, "arms": {"a": {}, "b": {"sampling": {"top_p": 1}}}},
            r"arm b: sampling.top_p: 1.0, and arm a has 0.9; .* all arms learn from the same logs, so set it under",
        ),
        (
            {"arms": {"a": {}, "b": {"policy": {"thinking": "strip"}}}},
            "arm b: policy.thinking: strip, and arm a has off; the model that answers the simulated users",
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


@pytest.mark.parametrize(
    ("users", "told"),
    [
        ({"thank": 1}, "arm a: deployment.users: no setting 'thank' of the users; there are thanks, complaints"),
        ({"thanks": 2}, "arm a: deployment.users: thanks: 2.0 is not a share; allowed: 0 to 1"),
        ({"thanks": "lots"}, "arm a: deployment.users.thanks: Input should be a valid number"),
        ({"thanks": None}, "arm a: deployment.users.thanks: Input should be a valid number"),
        ({"kinds": ["rhymes"]}, "arm a: deployment.users: kinds: rhymes gives no requests; allowed: "),
        (
            {"kinds": "one_line"},
            "arm a: deployment.users.kinds: Input should be a list, not 'one_line': write it as [one_line]",
        ),
        ({"kinds": [1]}, "arm a: deployment.users.kinds.0: Input should be a valid string"),
        (3, "arm a: deployment.users: "),
    ],
)
def test_a_wrong_setting_of_the_users_is_named(users, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        arms_of(settings(arms={"a": {"deployment": {"world": "instructions", "users": users}}}))


def test_an_arm_may_sample_its_own_replies_at_another_temperature_and_train_an_adapter():
    """The deployment has a temperature of its own, and a new adapter changes no reply."""
    own = {"a": {}, "hot": {"sampling": {"temperature": 1.0, "top_p": 1.0}}, "lora": {"policy": {"lora": {"r": 4}}}}
    assert [arm.name for arm in arms_of(settings(arms=own, differences=[]))] == list(own)


@pytest.mark.parametrize("seed", ["-1", str(2**63)])
def test_a_seed_that_no_run_can_have_is_refused_before_any_work(tmp_path, seed):
    (tmp_path / "c.yaml").write_text("arms: {a: {}}\n")
    result = CliRunner().invoke(
        app, ["compare", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--seed", seed]
    )
    assert result.exit_code == 2
    assert "Invalid value for '--seed'" in result.stderr
    assert not (tmp_path / "out").exists()
