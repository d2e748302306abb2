"""Runs that start from a peft adapter: they train it further as it is, and can be exported, measured and built on."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from drift.config import PolicySettings
from drift.delivery import Delivery, deliver
from drift.delivery.facts import read_facts_of
from drift.errors import ConfigError, PrerequisiteError
from drift.generations import check_adapters, open_parent
from drift.plan import make_plan
from drift.policy.adapter import check_adapter
from drift.policy.source import base_of_adapter
from drift.progress import listening
from drift.run import run_config
from drift.rundir import load_run
from small_runs import STAGE, settings, thumbed, write_chats


@pytest.fixture(scope="module")
def start(tiny_policy, tmp_path_factory) -> Path:
    """A folder with the model `base`, and `adapter`: one of rank 4 on two layers of each block, made by hand."""
    folder = tmp_path_factory.mktemp("start")
    shutil.copytree(tiny_policy, folder / "base")
    adapter = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder / "base"), adapter)
    model.save_pretrained(str(folder / "adapter"))
    for file in (folder / "base").glob("*token*"):
        shutil.copy(file, folder / "adapter")
    if (template := folder / "base/chat_template.jinja").exists():
        shutil.copy(template, folder / "adapter")
    return folder


def config(folder: Path, start: Path, **changes):
    logs = write_chats(folder, map(thumbed, range(changes.pop("chats", 40))))
    model = {"model": str(start / "adapter"), **changes.pop("policy", {})}
    cfg = {"iterations": 1, "policy": model, "store": str(folder / "store"), "warm_start": {**STAGE, "epochs": 0}}
    return settings(logs, start / "adapter", **{**cfg, "evaluation": {"max_prompts": 4}, **changes})


@pytest.fixture(scope="module")
def first(start, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run_config(config(folder, start), folder / "1")
    return folder / "1"


@pytest.fixture
def changed_base(start) -> Iterator[None]:
    file = start / "base/model.safetensors"
    shutil.copy(file, start / "kept")
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    yield
    (start / "kept").replace(file)


def test_it_is_exported_measured_and_built_on(first, start, tmp_path):
    trained = json.loads((first / "policy/adapter_config.json").read_text())
    assert (trained["r"], trained["base_model_name_or_path"]) == (4, str(start / "base"))
    assert deliver(first, tmp_path / "out", Delivery(merge=True)).largest_difference is not None
    assert read_facts_of(load_run(first)).lora_rank == 4
    check_adapters(str(first))
    notes: list[str] = []
    grown = config(first.parent, start, chats=60, **{"from": str(first)})
    with listening(lambda *_: None, notes.append):
        run_config(grown, first.parent / "2")
    assert not [note for note in notes if "changed since" in note]
    check_adapters(str(first.parent / "2"))
    states = [load_run(first.parent / name).state for name in "12"]
    assert len({(state.base, state.adapter) for state in states}) == 1
    assert states[0].adapter not in (None, states[0].base)


def test_an_adapter_on_the_whole_weights_of_an_earlier_generation_is_built_on(start, tmp_path):
    run_config(config(tmp_path, start, policy={"model": str(start / "base")}), tmp_path / "1")
    lora = {"model": str(start / "base"), "lora": {"r": 4, "alpha": 8}}
    run_config(config(tmp_path, start, chats=60, policy=lora, **{"from": str(tmp_path / "1")}), tmp_path / "2")
    check_adapters(str(tmp_path / "2"))
    weights = tmp_path / "1/policy/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(PrerequisiteError, match=r"2/policy: this adapter was trained on .*1/policy, whose files have"):
        check_adapters(str(tmp_path / "2"))


def test_another_base_beneath_it_is_refused(first, start, changed_base, tmp_path):
    for check in (
        lambda: deliver(first, tmp_path / "out"),
        lambda: check_adapters(str(first)),
        lambda: open_parent(config(first.parent, start, **{"from": str(first)})),
    ):
        with pytest.raises(PrerequisiteError, match=r"1/policy: this adapter was trained on .*base, whose files have"):
            check()


def test_a_chain_notes_that_the_adapter_it_began_with_changed(first, start, tmp_path):
    shutil.copytree(first.parent, tmp_path / "runs")
    config_file = start / "adapter/adapter_config.json"
    before = config_file.read_text()
    config_file.write_text(before.replace('"lora_alpha": 8', '"lora_alpha": 16'))
    notes: list[str] = []
    grown = config(tmp_path / "runs", start, chats=70, **{"from": str(tmp_path / "runs/1")})
    try:
        with listening(lambda *_: None, notes.append):
            run_config(grown, tmp_path / "runs/2")
    finally:
        config_file.write_text(before)
    assert [note for note in notes if "adapter: its files changed since the chain began" in note]


def test_a_run_of_an_earlier_version_noted_the_adapter_in_place_of_its_base(first, tmp_path):
    old = shutil.copytree(first, tmp_path / "old")
    state = json.loads((old / "run.json").read_text())
    state["base"] = state.pop("adapter")
    (old / "run.json").write_text(json.dumps(state))
    check_adapters(str(old))
    assert deliver(old, tmp_path / "out").rows > 0


def test_a_base_that_is_not_downloaded_is_not_said_to_have_changed(first, tmp_path):
    run = shutil.copytree(first, tmp_path / "run")
    adapter = run / "policy/adapter_config.json"
    named = json.loads(adapter.read_text())
    adapter.write_text(json.dumps({**named, "base_model_name_or_path": "no-owner/no-such-model"}))
    with pytest.raises(PrerequisiteError, match=r"which is not on this machine, .* hf download no-owner/no-such-model"):
        check_adapters(str(run))
    assert deliver(run, tmp_path / "out").rows > 0  # the adapter alone can be copied


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            {"r": 64, "alpha": 8},
            r"policy\.lora\.r: 64, but the adapter .*adapter has 4, and it is trained further as it",
        ),
        ({"r": 4, "alpha": 16}, r"policy\.lora\.alpha: 16, .* Set policy\.lora=null, or policy\.lora\.alpha=8\."),
        ({"r": 4, "alpha": 8}, r"target_modules: all-linear, .*or policy\.lora\.target_modules=\[q_proj, v_proj\]\."),
        ({"r": 4, "alpha": 8, "target_modules": ["q_proj"]}, r"policy\.lora\.target_modules: \[q_proj\], but the"),
    ],
)
def test_lora_settings_that_the_adapter_does_not_have_are_refused(first, start, tmp_path, lora, message):
    with pytest.raises(ConfigError, match=message) as error:
        run_config(config(tmp_path, start, policy={"lora": lora}), tmp_path / "run")
    assert "\n" not in str(error.value)


def test_the_settings_that_the_adapter_has_are_taken(start, tmp_path):
    own = {"r": 4, "alpha": 8, "target_modules": ["v_proj", "q_proj"]}
    check_adapter(start / "adapter", PolicySettings.model_validate({"lora": own}))
    check_adapter(start / "base", PolicySettings.model_validate({"lora": {"r": 64}}))
    for name, lora in {"all": {"r": 4}, "names": {"r": 4, "target_modules": ["q_proj", "down_proj"]}}.items():
        changes = {"policy": {"model": str(start / "base"), "lora": lora}, "store": str(tmp_path / "store")}
        logs = write_chats(tmp_path, map(thumbed, range(40)))
        run_config(settings(logs, start / "base", iterations=1, **changes), tmp_path / name)
        check_adapter(tmp_path / name / "policy", PolicySettings.model_validate({"lora": lora}))


def test_a_plan_counts_the_work_of_an_adapter(tmp_path):
    """Full training writes all weights once more."""
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/chat-7B-instruct"}')
    logs = write_chats(tmp_path, map(thumbed, range(40)))
    models = ("someone/chat-7B-instruct", str(tmp_path))
    plans = [make_plan(settings(logs, Path(model), iterations=1), tmp_path / "run") for model in models]
    assert plans[0].weights == plans[1].weights == 7e9
    assert plans[0].total.written_gb > plans[1].total.written_gb + 7 * 4  # float32


def test_an_adapter_that_names_no_base_is_one_line(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(PrerequisiteError, match=r"adapter_config.json: names no base model\. Set base_model_name"):
        base_of_adapter(tmp_path)
