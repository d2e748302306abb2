"""Policies load, are named by their weights, and fail in one line with the remedy."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from drift.config import PolicySettings
from drift.errors import PrerequisiteError
from drift.policy import model as models
from drift.policy.model import load_policy, parameter_count, resolve_source, save_policy, weights_id
from drift.progress import listening

SETTINGS = PolicySettings()


def test_the_id_follows_the_weights_not_the_path(tiny_policy, tmp_path):
    policy = load_policy(tiny_policy, SETTINGS)
    save_policy(policy, tmp_path / "copy")
    copied = load_policy(tmp_path / "copy", SETTINGS)
    assert copied.policy_id == policy.policy_id
    assert len(policy.policy_id) == 16
    with torch.no_grad():
        next(copied.model.parameters())[0, 0] += 1e-6
    assert weights_id(copied.model) != policy.policy_id


def test_a_saved_policy_loads_in_transformers(tiny_policy, tmp_path):
    policy = load_policy(tiny_policy, SETTINGS)
    save_policy(policy, tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(plain(ids).logits, policy.model(ids).logits)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == policy.tokenizer.chat_template


def test_parameters_are_counted_without_the_weights(tiny_policy, tmp_path):
    (tmp_path / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{tiny_policy}"}}')
    expected = AutoModelForCausalLM.from_pretrained(tiny_policy).num_parameters()
    assert parameter_count(tiny_policy) == parameter_count(tmp_path) == expected


def test_dtype_is_as_set(tiny_policy):
    assert load_policy(tiny_policy, PolicySettings(dtype="bfloat16")).model.dtype == torch.bfloat16
    assert load_policy(str(tiny_policy), SETTINGS).model.dtype == torch.float32


@pytest.mark.parametrize(
    ("dtype", "has_it", "told"), [("bfloat16", False, 1), ("bfloat16", True, 0), ("float32", False, 0)]
)
def test_emulated_bfloat16_is_told_once(tiny_policy, monkeypatch, dtype, has_it, told):
    monkeypatch.setattr(models, "computes_bfloat16", lambda: has_it)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    models.warn_if_emulated.cache_clear()
    notes = []
    with listening(lambda *_: None, notes.append):
        for _ in range(2):
            load_policy(tiny_policy, PolicySettings(dtype=dtype))
    slow = [note for note in notes if "times as long as in float32" in note]
    assert len(slow) == told
    assert all("policy.dtype: float32" in note for note in slow)


def test_other_work_on_the_machine_does_not_count_as_slow_arithmetic(monkeypatch):
    clock = iter([0.0, 0.5, 1.0, 1.25, 2.0, 9.0])
    monkeypatch.setattr(models.time, "perf_counter", lambda: next(clock))
    assert models._seconds_of_product(torch.float32) == 0.25


def test_a_long_message_of_a_library_is_cut_between_words(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError("We cannot reach https://huggingface.co/docs " * 9)

    monkeypatch.setattr(models.AutoTokenizer, "from_pretrained", fails)
    with pytest.raises(PrerequisiteError, match=r"reach \.\.\.\)\. Set policy.model"):
        load_policy("no/model", SETTINGS)


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "Set policy.model (or --model) to a folder" in text
    return text


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: folder / "missing", "no such folder"),
        (lambda folder: folder, "no config.json"),
        (lambda folder: (folder / "notes.txt").write_text("hi") and folder / "notes.txt", "a file"),
    ],
)
def test_a_path_that_is_no_model_says_so(tmp_path, make, why):
    source = make(tmp_path)
    with pytest.raises(PrerequisiteError, match=why) as error:
        load_policy(str(source), SETTINGS)
    assert one_line(error).startswith(str(source))


def test_a_name_the_hub_cannot_give_says_so():
    with pytest.raises(PrerequisiteError, match="nobody/no-such-model") as error:
        load_policy("nobody/no-such-model", SETTINGS)
    one_line(error)


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_folder_says_so(tiny_policy, tmp_path, damaged):
    folder = shutil.copytree(tiny_policy, tmp_path / "damaged")
    (folder / damaged).write_bytes(b"no such thing")
    with pytest.raises(PrerequisiteError, match="the model cannot be loaded") as error:
        load_policy(folder, SETTINGS)
    one_line(error)


def test_a_tokenizer_without_template_is_refused(tiny_policy, tmp_path):
    folder = shutil.copytree(tiny_policy, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(PrerequisiteError, match="its tokenizer has no chat template"):
        load_policy(folder, SETTINGS)


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_a_folder_without_its_tokenizer_is_refused(tmp_path, kept):
    """transformers makes an empty tokenizer of it, and a run would find that every reply is empty."""
    folder = tmp_path / "model"
    shutil.copytree(resolve_source("embedded"), folder)
    for file in folder.glob("tokenizer*"):
        if file.name not in kept:
            file.unlink()
    with pytest.raises(PrerequisiteError, match=r"its tokenizer knows no words.*Copy tokenizer\.json"):
        load_policy(folder, SETTINGS)


def test_the_tokenizer_of_another_model_is_refused(tiny_policy, tmp_path):
    """Its tokens would be looked up behind the last row of the embeddings."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_policy, folder)
    shutil.copy(Path(resolve_source("embedded"), "tokenizer.json"), folder)
    with pytest.raises(PrerequisiteError, match=r"tokens up to 1\d{3}, and the model rows for \d+: it is another"):
        load_policy(folder, SETTINGS)


def test_a_template_with_a_token_that_the_model_has_no_row_for_is_refused(tiny_policy, tmp_path):
    """ChatML's marks were added to the tokenizer, and the embeddings kept their size."""
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    shutil.copytree(tiny_policy, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|turn|>")
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        PrerequisiteError, match=r"its chat template writes '<\|turn\|>' \(token \d+\), and the model has rows"
    ):
        load_policy(folder, SETTINGS)


def test_embedded_names_are_folders_of_the_package():
    assert resolve_source("embedded").endswith("sandbox/checkpoints/base-1")
    assert resolve_source("embedded-3").endswith("sandbox/checkpoints/base-3")
    assert resolve_source("Qwen/Qwen2.5-7B-Instruct") == "Qwen/Qwen2.5-7B-Instruct"


def test_loading_is_silent(tiny_policy, tmp_path, capfd):
    save_policy(load_policy(tiny_policy, SETTINGS), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_without_all_of_its_weights_is_refused(tiny_policy, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_policy, tmp_path / "lacking")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrerequisiteError, match=r"no weights for 1 of the model's tensors, such as model\.layers\.1"):
        load_policy(folder, SETTINGS)
