"""What a config file or a --set says as YAML: numbers, dates, words, anchors. Each is one value or one clear line."""

from pathlib import Path

import pytest

from drift.config import dump_config, load_config, parse_config, read_yaml
from drift.errors import ConfigError
from drift.experiments.compare.settings import load_comparison
from drift.feedback.judge.rubric import DEFAULT, load_rubric


def config_file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("warm_start: &t {epochs: 2, beta: 0.3}\ntraining: *t", "training.epochs=1"),
        ("warm_start: &t {epochs: 2}\ntraining: {<<: *t, beta: 0.3}", "training.epochs=1"),
        (
            "warm_start: &t {epochs: 2, experimental: {margin_unit: token}}\ntraining: {<<: *t, epochs: 1}",
            "training.experimental.margin_unit=sequence",
        ),
    ],
)
def test_an_override_changes_one_of_the_places_that_share_a_section(tmp_path, text, changed):
    path = config_file(tmp_path, text)
    before, after = load_config(path), load_config(path, (changed,))
    assert after.warm_start == before.warm_start
    assert after.training != before.training or changed == "training.epochs=1"
    assert (after.warm_start.epochs, after.training.epochs) == (2, 1)


def test_an_endpoint_that_two_sections_share_is_changed_in_one(tmp_path):
    server = "&e {base_url: 'http://a/v1', model: m}"
    path = config_file(tmp_path, f"labels: {{endpoint: {server}}}\nsampling: {{endpoint: *e}}")
    cfg = load_config(path, ("sampling.endpoint.model=other", "sampling.endpoint.timeout=9"))
    assert cfg.labels.endpoint is not None
    assert cfg.sampling.endpoint is not None
    assert (cfg.labels.endpoint.model, cfg.labels.endpoint.timeout) == ("m", 120.0)
    assert (cfg.sampling.endpoint.model, cfg.sampling.endpoint.timeout) == ("other", 9.0)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "042", 42),
        ("seed", "0x1F", 31),
        ("seed", "1_000", 1000),
        ("recipe.pairs", "1e3", 1000),
        ("recipe.guided_share", "5e-1", 0.5),
        ("training.learning_rate", "1e-4", 1e-4),
        ("training.learning_rate", "5E-7", 5e-7),
        ("policy.date", "2026-01-31", "2026-01-31"),
        ("policy.template_arguments", "{date_string: 2026-01-01}", {"date_string": "2026-01-01"}),
        ("policy.template_arguments", "{effort: 1e3, at: 12:30}", {"effort": 1000.0, "at": "12:30"}),
        ("policy.model", "trueish", "trueish"),
        ("policy.thinking", "off", "off"),
    ],
)
def test_a_value_is_read_as_it_is_written(tmp_path, key, text, value):
    *sections, last = key.split(".")
    nested = "".join(f"{section}: {{" for section in sections) + f"{last}: {text}" + "}" * len(sections)
    for cfg in (load_config(config_file(tmp_path, nested)), load_config(config_file(tmp_path, ""), (f"{key}={text}",))):
        read = cfg
        for part in (*sections, last):
            read = getattr(read, part)
        assert read == value
        assert type(read) is type(value)
        assert load_config(config_file(tmp_path, dump_config(cfg))) == cfg


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("policy.date", "2026-02-30", "policy.date: '2026-02-30' is no date; write it as 2026-11-28"),
        ("seed", "0x_", "seed: Input should be a valid integer"),
        ("seed", "1:30", "seed: Input should be a valid integer"),
        ("seed", "1" * 5000, "a value does not fit its type|quote it"),
        ("iterations", "true", "iterations: expected a number, not true"),
        ("threads", "True", "threads: expected a number, not true"),
        ("evaluation.temperatures", "[0.7, false]", "evaluation.temperatures: expected a number, not false"),
        ("training.beta", "true", "training.beta: expected a number, not true"),
        ("labels.endpoint", "{base_url: 'http://H:abc', model: m}", "labels.endpoint.base_url: 'http://H:abc' is no"),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path, key, text, message):
    *sections, last = key.split(".")
    nested = "".join(f"{section}: {{" for section in sections) + f"{last}: {text}" + "}" * len(sections)
    path = config_file(tmp_path, nested)
    with pytest.raises(ConfigError, match=message) as in_file:
        load_config(path)
    empty = config_file(tmp_path, "")
    with pytest.raises(ConfigError, match=message) as as_override:
        load_config(empty, (f"{key}={text}",))
    assert "\n" not in str(in_file.value) + str(as_override.value)


@pytest.mark.parametrize("text", ["[" * 3000, "a: !!bool maybe", "a: !!timestamp x", f"a: {'1' * 5000}"])
def test_no_file_is_a_traceback(tmp_path, text):
    path = config_file(tmp_path, text)
    for load in (load_config, load_comparison):
        with pytest.raises(ConfigError, match=r"mine\.yaml: cannot be read as YAML"):
            load(path)


@pytest.mark.parametrize("text", ["1e3", "042", "089", "1:30", "2026-01-01", "on", "~", "0x1F", "1_000", ".5", "true"])
def test_a_text_that_looks_like_something_else_survives_a_round_trip(text):
    cfg = parse_config({"name": text, "policy": {"template_arguments": {"a": text}}}, "here")
    assert parse_config(read_yaml(dump_config(cfg)), "here") == cfg


def test_a_rubric_is_read_as_a_config_is(tmp_path):
    path = tmp_path / "rubric.yaml"
    shipped = DEFAULT.read_text("utf-8")
    path.write_text(shipped[: shipped.index("provenance:")] + "provenance: {made: 2026-02-30}", encoding="utf-8")
    assert load_rubric(path).provenance == {"made": "2026-02-30"}
