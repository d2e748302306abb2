from pathlib import Path

import pytest

import drift.experiments
from drift.config import RECIPE_RULES, Config, RecipeSettings, TrainerSettings, dump_config, load_config, parse_config
from drift.errors import ConfigError
from drift.pairs.screening import MAX_SIMILARITY
from drift.training.diagnostics import LEMMA_1_TAU

FOLDER = Path(__file__).parents[1] / "configs"
DEMO_REAL = Path(drift.experiments.__file__).with_name("demo_real.yaml")
FILES = sorted(
    path for path in FOLDER.rglob("*.yaml") if path.parent.name != "cluster"
)  # those are Ray's and Kubernetes'
CONFIGS = [path for path in FILES if "\narms:" not in path.read_text("utf-8")]  # the others are comparisons


# so that a new recipe changes nothing here
GUIDED_RECIPES = " or ".join(name for name, rules in RECIPE_RULES.items() if rules.guides and not rules.once)
SELF_DISTILLED = " or ".join(name for name, rules in RECIPE_RULES.items() if rules.loss == "self_distillation")


def config_file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_survives_a_round_trip(path, tmp_path):
    loaded = load_config(path)
    assert load_config(config_file(tmp_path, dump_config(loaded))) == loaded


def test_the_config_for_ones_own_model_trains_as_the_measured_demo_does():
    mine, measured = load_config(FOLDER / "own_model.yaml"), load_config(DEMO_REAL)
    for section in ("warm_start", "training", "labels", "stop", "iterations"):
        assert getattr(mine, section) == getattr(measured, section)
    assert (mine.sampling.temperature, mine.sampling.top_p) == (measured.sampling.temperature, measured.sampling.top_p)


@pytest.mark.parametrize("size", ["7b", "14b"])
def test_the_papers_presets_hold_its_hyperparameters(size):
    cfg = load_config(next(path for path in CONFIGS if path.stem == f"qwen2.5-{size}"))
    assert cfg.policy.model == f"Qwen/Qwen2.5-{size.upper()}-Instruct"
    assert (cfg.warm_start.epochs, cfg.training.epochs, cfg.seed) == (3, 1, 42)
    for stage in (cfg.warm_start, cfg.training):
        assert (stage.beta, stage.rpo_alpha, stage.optimizer, stage.learning_rate) == (0.1, 0.001, "rmsprop", 5e-7)
        assert (stage.lr_scheduler, stage.warmup_ratio, stage.batch_size) == ("linear", 0.1, 4)
        assert (stage.max_length, stage.max_prompt_length, stage.gradient_checkpointing) == (2048, 1024, True)
    assert (cfg.sampling.temperature, cfg.sampling.top_p, cfg.sampling.max_new_tokens) == (0.7, 0.9, 512)
    assert cfg.recipe.samples == 1
    assert (cfg.recipe.guided_share, cfg.recipe.guidance) == (1.0, "turn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "labels: {endpoint: {base_ulr: 'http://x', model: m}}",
            "labels.endpoint.base_ulr: unknown setting; did you mean 'base_url'?",
        ),
        (
            "labels: {endpoint: {model: m}}",
            "labels.endpoint.base_url: missing. Set it, for example with --set labels.endpoint.base_url=VALUE.",
        ),
        ("trainig: {beta: 0.2}", "trainig: unknown setting; did you mean 'training'?"),
        ("training: {bta: 0.2}", "training.bta: unknown setting; did you mean 'beta'?"),
        (
            "policy: {lora: {rank: 4}}",
            "policy.lora.rank: unknown setting; allowed: r, alpha, target_modules, quantize.",
        ),
        ("training: {beta: -1}", "training.beta: Input should be greater than 0, not -1."),
        ("arms: {a: {}}\nseeds: [1]", "this config compares several arms. `drift compare "),
        (
            "name: ../other",
            "name: the run's folder is runs/NAME-HASH: give a name without a slash, not '../other'",
        ),
        ("name: ''", "name: the run's folder is runs/NAME-HASH: give a name without a slash, not ''"),
        ("logs: chats.json", "logs: Input should be a list, not 'chats.json': write it as [chats.json]."),
        ("seed: 1\nlogs: null", "logs: Input should be a list, not None."),
        ("beta: 0.2", "beta: unknown setting; did you mean 'warm_start.beta' or 'training.beta'?"),
        (
            "policy: {lora: true}",
            "policy.lora: Input should be a section of settings (r, alpha, target_modules, quanti",
        ),
        (
            "recipe: {scorer: self}",
            "recipe.scorer: Input should be a section of settings (name, model, endpoint, noise",
        ),
        ("training: {shard: nodes}", "training.shard: Input should be true or false or 'node', not 'nodes'."),
        (
            "policy: {lora: {target_modules: q_proj}}",
            "policy.lora.target_modules: Input should be 'all-linear' or a list, not 'q_proj'.",
        ),
        (
            "policy: {lora: {target_modules: [1]}}",
            "policy.lora.target_modules.0: Input should be a valid string, not 1.",
        ),
        (
            "recipe: {scorer: {name: reward_model}}",
            "recipe.scorer: scorer reward_model needs a model folder or id: set recipe.scorer.model.",
        ),
        (
            "recipe: {scorer: {name: hindsight, model: big}}",
            "recipe.scorer: scorer hindsight uses no model of its own, so big would score nothing: set recipe.scorer.",
        ),
        (
            "recipe: {scorer: {endpoint: {base_url: 'http://a/v1', model: m}}}",
            "recipe.scorer: scorer self asks no server, so http://a/v1 would score nothing: set recipe.scorer.",
        ),
        ("beta: 1\nrecipe: {}\nbeta: 2", "cannot be read as YAML: the key 'beta' stands in line 1 and in line 3; keep"),
        ("recipe: {scorer: {name: judge}}", "recipe.scorer: scorer judge needs a server: set recipe.scorer."),
        ("recipe: {name: spin, scorer: {name: self}}", "recipe: recipe spin does not use scores"),
        (
            "recipe: {name: logs, only_wins: true}",
            "logs does not use scores: remove recipe.scorer and recipe.only_wins.",
        ),
        ("recipe: {win_probability: 0.9}", "which wins count: set recipe.only_wins=true, or remove it"),
        (
            "recipe: {win_probability: 0.9, only_wins: true, scorer: {name: hindsight}}",
            "feedback or reward_model; that of hindsight has another unit: remove win_probability, or change",
        ),
        ("recipe: {guided_share: atuo}", "recipe.guided_share: a share from 0 to 1, or auto; got 'atuo'."),
        ("recipe: {guided_share: 1.5}", "recipe.guided_share: a share from 0 to 1, or auto; got 1.5."),
        ("recipe: {guided_share: true}", "recipe.guided_share: a share from 0 to 1, or auto; got True."),
        (
            "recipe: {name: spin, guided_share: auto}",
            "recipe: recipe spin shows no complaint to the policy, so guided_share: auto measures nothing: set "
            f"recipe.guided_share=0, or recipe.name to {GUIDED_RECIPES}.",
        ),
        ("recipe: {guidance: hints}", "recipe.guidance: Input should be 'turn', 'hint' or 'rewrite', not 'hints'."),
        ("recipe: {guidance_prompts: 9}", "guidance_prompts: Input should be greater than or equal to 10, not 9."),
        ("sampling: {guidance: hint}", "sampling.guidance: unknown setting; did you mean 'recipe.guidance'?"),
        (
            "sampling: {epochs: 2}",
            "sampling.epochs: unknown setting; did you mean 'warm_start.epochs' or",
        ),  # two sections have epochs
        ("sampling: {backend: endpoint}", "sampling: backend endpoint needs a server: set sampling."),
        ("iterations: many", "iterations: Input should be a valid integer"),
        ("[1, 2]", "a config is a mapping of keys to values, not a list."),
        ("a: [", "cannot be read as YAML"),
        ("training: {tau: 0.3}", "training: tau is fixed at 0.25 now, not 0.3; remove tau from the config."),
        (
            "warm_start: {margin_unit: token, experimental: {margin_unit: sequence}}",
            "warm_start: margin_unit is set twice; keep experimental.margin_unit and remove margin_unit.",
        ),
        (
            "training: {loss: kto}",
            "mine.yaml: training.loss=kto learns from replies without a partner, and recipe drift makes pairs: set "
            "recipe.name to unpaired, or another training.loss.",
        ),
        (
            "training: {loss: self_distillation}",
            f"recipe.name to {SELF_DISTILLED}, or another training.loss.",
        ),
        ("recipe: {name: follow_up}", "needs pairs: set training.loss to self_distillation, or another recipe.name."),
        ("recipe: {name: liked}", "needs pairs: set training.loss to sft, or another recipe.name."),
        ("recipe: {name: follow_up, guided_share: auto}", "recipe follow_up shows no complaint to the policy"),
        (
            "warm_start: {loss: self_distillation}",
            f"loss self_distillation learns from the replies of recipe {SELF_DISTILLED}, in the",
        ),
        ("training: {signal_clip: 2}", "training: signal_clip belongs to loss self_distillation, not to sigmoid"),
        ("training: {loss: self_distillation, signal_clip: 0}", "signal_clip: Input should be greater than 0"),
        (
            "recipe: {name: rlhi, guided_share: 0.5}",
            "recipe: recipe rlhi rewrites replies by what their user wrote, so all of its prompts are guided: set "
            "recipe.guided_share=1, not 0.5, or recipe.name=drift",
        ),
        ("recipe: {name: rlhi, guided_share: auto}", "set recipe.guided_share=1, not auto"),
        ("recipe: {own_majority: 2}", "recipe.own_majority: Input should be greater than or equal to 3, not 2."),
        (
            "recipe: {name: spin, own_majority: 5}",
            "recipe: own_majority says which complaints are believed, and recipe spin learns from other replies",
        ),
        (
            "labels: {include: [mistaken]}",
            "labels.include.0: Input should be 'refusal_complaint', 'user_mistaken', 'abuse'",
        ),
        (
            "recipe: {name: unpaired}",
            "mine.yaml: recipe unpaired gives replies without a partner, and training.loss=sigmoid needs pairs: set "
            "training.loss to kto, or another recipe.name.",
        ),
        ("recipe: {name: unpaired}\ntraining: {loss: sft}", "training.loss=sft needs pairs: set training.loss to kto"),
        ("recipe: {name: unpaired, only_wins: true}", "recipe: recipe unpaired does not use scores"),
        (
            "warm_start: {loss: kto}",
            "warm_start: loss kto learns from the replies of recipe unpaired, in the",
        ),
        (
            "training: {loss: kto, diagnostics: true}",
            "training: diagnostics compare the two replies of a pair, and",
        ),
        (
            "training: {desirable_weight: 2}",
            "training: desirable_weight and undesirable_weight belong to loss kto",
        ),
        ("training: {loss: kto, undesirable_weight: 0}", "training.undesirable_weight: Input should be greater than 0"),
        ("training: {beta: .inf}", "training.beta: Input should be a finite number"),
        ("training: {learning_rate: .nan}", "training.learning_rate: Input should be a finite number"),
        ("seed: -1", "seed: Input should be greater than or equal to 0"),
        (f"seed: {2**63}", "seed: Input should be less than or equal to"),
        ("sampling: {vllm: {seeds: perhaps}}", "sampling.vllm.experimental.seeds: Input should be a valid boolean"),
    ],
)
def test_a_wrong_config_is_an_error_of_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        load_config(config_file(tmp_path, text))
    assert message in str(error.value)
    assert "mine.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_config_and_a_folder_are_errors(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            load_config(path)


def test_set_overrides_any_key(tmp_path):
    path = config_file(tmp_path, "training: {beta: 0.2}")
    cfg = load_config(path, ("training.beta=0.3", "logs=[a.json, b.json]", "policy.lora.r=4"))
    assert (cfg.training.beta, cfg.logs, cfg.name) == (0.3, ("a.json", "b.json"), "mine")
    assert cfg.policy.lora is not None
    assert cfg.policy.lora.r == 4


@pytest.mark.parametrize(
    "override",
    ["training.beta", "=3", ".beta=3", "training.=3", "training.beta.x=3", "training={beta: 3", "training.bta=1"],
)
def test_a_wrong_override_is_an_error(tmp_path, override):
    with pytest.raises(ConfigError):
        load_config(config_file(tmp_path, "training: {beta: 0.2}"), (override,))


EARLIER = {
    "labels": {"audit_share": 0.2},
    "recipe": {"max_similarity": 0.98},
    "sampling": {"vllm": {"seeds": False}},
    "warm_start": {"tau": 0.25, "margin_unit": "sequence"},
    "training": {"tau": 0.25, "margin_unit": "token"},
}
"""As the config.yaml of a run names them that an earlier version made."""


def test_settings_of_earlier_versions_load_in_their_new_places():
    cfg = parse_config(EARLIER, "config.yaml")
    assert (cfg.labels.experimental.audit_share, cfg.sampling.vllm.experimental.seeds) == (0.2, False)
    assert (cfg.training.experimental.margin_unit, cfg.warm_start.experimental.margin_unit) == ("token", "sequence")
    assert "tau" not in dump_config(cfg)
    assert EARLIER["training"] == {"tau": 0.25, "margin_unit": "token"}  # reading a config does not change it


def test_a_setting_that_became_a_constant_loads_with_its_value_alone():
    assert TrainerSettings.FIXED == {"tau": LEMMA_1_TAU}
    assert RecipeSettings.FIXED == {"max_similarity": MAX_SIMILARITY}


def test_set_finds_the_new_place_of_an_earlier_setting(tmp_path):
    path = config_file(tmp_path, "training: {beta: 0.2}")
    assert load_config(path, ("training.margin_unit=token",)).training.experimental.margin_unit == "token"


def test_the_defaults_are_a_valid_config():
    assert parse_config({}, "here") == Config()


@pytest.mark.parametrize(("old", "new"), [(False, "match"), (True, "drop")])
def test_a_config_of_an_earlier_version_names_what_is_unfinished_by_its_old_key(old, new):
    assert parse_config({"sampling": {"drop_truncated": old}}, "x").sampling.unfinished == new
    with pytest.raises(ConfigError, match="drop_truncated is unfinished now, one of match, drop; got 'perhaps'"):
        parse_config({"sampling": {"drop_truncated": "perhaps"}}, "x")
    both = {"drop_truncated": old, "unfinished": "drop" if new == "match" else "match"}
    with pytest.raises(ConfigError, match="both are set; remove drop_truncated"):
        parse_config({"sampling": both}, "x")


def test_on_and_off_are_words(tmp_path):
    file = tmp_path / "words.yaml"
    file.write_text("warm_start: {on: liked}\ntraining: {diagnostics: yes, gradient_checkpointing: true}\nlogs: [no]\n")
    cfg = load_config(file, ("warm_start.on=both", "policy.model=off"))
    assert (cfg.warm_start.on, cfg.policy.model, cfg.logs) == ("both", "off", ("no",))
    assert cfg.training.diagnostics is cfg.training.gradient_checkpointing is True
    written = tmp_path / "written.yaml"
    written.write_text(dump_config(cfg))
    assert load_config(written) == cfg


def test_guidance_is_measured_where_a_config_says_so():
    real = load_config(next(path for path in CONFIGS if path.stem == "real_logs"))
    assert (real.recipe.guided_share, real.recipe.guidance) == ("auto", "turn")
    assert RecipeSettings().known_guided_share == 1.0
    assert RecipeSettings(guided_share=1).model_dump_json() == RecipeSettings().model_dump_json()
    with pytest.raises(ConfigError, match="auto is measured by `drift run`; set a share from 0 to 1 here"):
        _ = real.recipe.known_guided_share
