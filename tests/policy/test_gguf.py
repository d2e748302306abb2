"""A policy in a GGUF file: weights and texts of the model it was made of, and one clear line if it is broken."""

import builtins
import shutil
import struct
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drift.config import LoraSettings, PolicySettings
from drift.errors import PrerequisiteError
from drift.policy.model import load_policy, parameter_count, resolve_source, source_of, tokenizer_id, unpack

FLOAT = PolicySettings()
TEXTS = ["hello  world\n\n x", "123 ünï 你好 🙂", "<|im_end|> a", ""]


def test_the_weights_are_those_of_the_file(write_gguf, tiny_policy, tmp_path):
    gguf = pytest.importorskip("gguf")
    original = load_policy(tiny_policy, FLOAT)
    exact = load_policy(write_gguf(tmp_path / "exact.gguf"), FLOAT)
    assert exact.policy_id == original.policy_id
    assert parameter_count(tmp_path / "exact.gguf") == original.model.num_parameters()
    rounded = load_policy(write_gguf(tmp_path / "rounded.gguf", "Q4_1"), FLOAT)
    name = "model.layers.1.mlp.up_proj.weight"
    kind = gguf.GGMLQuantizationType.Q4_1
    expected = gguf.dequantize(gguf.quantize(original.model.state_dict()[name].numpy(), kind), kind)
    assert torch.equal(rounded.model.state_dict()[name], torch.from_numpy(expected))
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(exact.model(ids).logits, original.model(ids).logits)


def test_tokenizer_template_and_facts_come_from_the_file(write_gguf, tiny_policy, tmp_path):
    original, policy = load_policy(tiny_policy, FLOAT), load_policy(write_gguf(tmp_path / "m.gguf", "Q8_0"), FLOAT)
    assert policy.tokenizer.chat_template == original.tokenizer.chat_template
    assert [policy.tokenizer(text).input_ids for text in TEXTS] == [
        original.tokenizer(text).input_ids for text in TEXTS
    ]
    assert (policy.context_length, policy.stop_ids) == (1024, original.stop_ids)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unpacked_it_is_the_same_policy(write_gguf, tmp_path, dtype):
    file = write_gguf(tmp_path / "m.gguf", "Q8_0")
    assert unpack(tmp_path / "folder", file, dtype)["parameters"] > 0
    packed, unpacked = (load_policy(source, PolicySettings(dtype=dtype)) for source in (file, tmp_path / "folder"))
    assert packed.policy_id == unpacked.policy_id
    assert tokenizer_id(packed.tokenizer) == tokenizer_id(unpacked.tokenizer)
    assert packed.model.generation_config.eos_token_id == unpacked.model.generation_config.eos_token_id


def test_weights_can_be_trained(write_gguf, tmp_path):
    model = load_policy(write_gguf(tmp_path / "m.gguf", "Q8_0"), FLOAT).model
    model(torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_file_is_a_stage_input_by_its_content(write_gguf, tmp_path):
    file = write_gguf(tmp_path / "m.gguf")
    assert source_of(str(file)) == file
    blob = shutil.copy(file, tmp_path / "sha256-0123")  # as Ollama keeps it
    assert resolve_source(str(blob)) == str(blob)
    assert load_policy(str(blob), FLOAT).policy_id == load_policy(file, FLOAT).policy_id


def refused(source, why: str, policy_settings: PolicySettings = FLOAT) -> str:
    with pytest.raises(PrerequisiteError, match=why) as error:
        load_policy(source, policy_settings)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_a_path_without_a_file_says_so(tmp_path):
    assert "no such file" in refused(tmp_path / "missing.gguf", "missing.gguf")
    assert "no such file" in refused("missing.gguf", "missing.gguf")
    (tmp_path / "page.gguf").write_text("<html>")
    assert refused(tmp_path / "page.gguf", "not a GGUF file .it begins with b'<htm'")
    (tmp_path / "empty.gguf").touch()
    assert refused(tmp_path / "empty.gguf", "not a GGUF file")


def test_a_folder_of_gguf_files_names_one(write_gguf, tmp_path):
    write_gguf(tmp_path / "m.gguf")
    assert refused(tmp_path, "no config.json, but m.gguf: name that file")


def test_a_cut_file_says_so(write_gguf, tmp_path):
    file = write_gguf(tmp_path / "m.gguf")
    content = file.read_bytes()
    for share, why in (
        (0.01, "header is damaged or cut"),
        (0.2, "header is damaged or cut|lie behind its end"),
        (0.99, "lie behind its end"),
    ):
        file.write_bytes(content[: int(len(content) * share)])
        assert refused(file, why)


def test_other_files_that_cannot_be_used_say_so(write_gguf, tmp_path):
    assert refused(
        write_gguf(tmp_path / "a.gguf", split__count=3), "one of 3 parts; join them: llama-gguf-split --merge"
    )
    assert refused(write_gguf(tmp_path / "b.gguf", architecture="rwkv7"), "rwkv7 is not supported")
    assert refused(write_gguf(tmp_path / "c.gguf", leave_out="blk.1.ffn_up.weight"), "no weights for 1 .*up_proj")
    old = tmp_path / "d.gguf"
    old.write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    assert refused(old, "GGUF version 1, expected 2 or 3")
    nothing = tmp_path / "e.gguf"
    nothing.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    assert refused(nothing, "it holds no weights")


@given(st.integers(4, 6000), st.binary(min_size=1, max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_the_header_is_one_line(write_gguf, tmp_path, place, noise):
    from drift.policy.gguf.header import read_header

    file = tmp_path / "m.gguf"
    if not file.exists():
        write_gguf(file)
        shutil.copy(file, tmp_path / "good")
    content = bytearray((tmp_path / "good").read_bytes())
    content[place : place + len(noise)] = noise
    file.write_bytes(content)
    with suppress(PrerequisiteError):  # anything else fails the test
        assert read_header(file).tensors


def test_without_the_package_the_install_command_is_named(write_gguf, tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "m.gguf")
    real = builtins.__import__

    def without(name, *rest):
        if name == "gguf":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert refused(file, "pip install 'drift-training.train.'")


def test_an_adapter_on_a_gguf_file_finds_its_base(write_gguf, tmp_path):
    from peft import LoraConfig, get_peft_model

    file = write_gguf(tmp_path / "m.gguf", "Q8_0")
    base = load_policy(file, FLOAT)
    adapter = get_peft_model(base.model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapter.save_pretrained(tmp_path / "adapter")
    base.tokenizer.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(load_policy(tmp_path / "adapter", FLOAT).model(ids).logits, adapter(ids).logits)
    file.rename(tmp_path / "moved.gguf")
    assert refused(tmp_path / "adapter", "the adapter's base model .*m.gguf is gone")


def test_a_gguf_file_is_not_loaded_in_4_bits(write_gguf, tmp_path):
    assert refused(
        write_gguf(tmp_path / "m.gguf"), "not loaded in 4 bits", PolicySettings(lora=LoraSettings(quantize="4bit"))
    )
