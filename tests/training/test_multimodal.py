"""Tiny random checkpoints that also read images, trained on text: the language model moves and nothing else does.

The architectures are those of transformers: Gemma 3 and 4, Qwen2.5-VL, Qwen3-VL, and Qwen3.5, which
AutoModelForCausalLM loads without its other parts.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, PreTrainedModel

from drift.config import LoraSettings, PolicySettings, SamplingSettings, TrainingSettings
from drift.errors import PrerequisiteError
from drift.policy.model import load_policy, parameter_count
from drift.policy.multimodal import language_model
from drift.policy.samplers.transformers import generate
from drift.progress import listening
from drift.records import ChatMessage, PreferencePair, write_jsonl
from drift.training.reference import ReferenceSettings, measure_reference
from drift.training.shared_prefix import choose_packing
from drift.training.train import train

TEXT = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 640,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
    "initializer_range": 0.2,
}
WINDOWS = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": True}
SIGLIP = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
QWEN = {"hidden_size": 16, "intermediate_size": 32, "depth": 1, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}


def rope(*sections: int, **more) -> dict:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(sections), **more}}


PARTS = {
    "Gemma3": (
        {**TEXT, **WINDOWS},
        {**SIGLIP, "image_size": 28, "patch_size": 14},
        {"image_token_index": 5, "boi_token_index": 6, "eoi_token_index": 7, "mm_tokens_per_image": 4},
    ),
    "Gemma4": (
        {**TEXT, **WINDOWS, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "global_head_dim": 8},
        {**SIGLIP, "num_key_value_heads": 2, "head_dim": 8},
        {"audio_config": None},
    ),
    "Qwen2_5_VL": (
        {name: value for name, value in {**TEXT, **rope(1, 1, 2)}.items() if name != "head_dim"},
        {**QWEN, "fullatt_block_indexes": [0]},
        {},
    ),
    "Qwen3VL": (
        {**TEXT, **rope(2, 1, 1, mrope_interleaved=True)},
        {**QWEN, "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        {},
    ),
    "Qwen3_5": (
        {**TEXT, **LINEAR, **rope(1, 1, 0, mrope_interleaved=True, partial_rotary_factor=0.5)},
        {**QWEN, "num_position_embeddings": 16},
        {},
    ),
}
PROCESSOR = {"preprocessor_config.json": '{"size": 28}', "processor_config.json": '{"image_seq_length": 4}'}
SETTINGS = TrainingSettings(learning_rate=3e-3, optimizer="adamw_torch", batch_size=4)


@pytest.fixture(params=PARTS)
def checkpoint(request, tmp_path, byte_tokenizer) -> Path:
    text, vision, more = PARTS[request.param]
    config_class = getattr(transformers, f"{request.param}Config", None)
    if config_class is None:
        pytest.skip(f"this transformers has no {request.param}")
    torch.manual_seed(0)
    config = config_class(text_config=text, vision_config=vision, **more)
    folder = tmp_path / request.param
    getattr(transformers, f"{request.param}ForConditionalGeneration")(config).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    for name, content in PROCESSOR.items():
        (folder / name).write_text(content)
    return folder


def trained(start: Path, out: Path, policy: PolicySettings) -> tuple[Path, list[str]]:
    """One epoch over ten pairs; the policy's folder, and what was said meanwhile."""
    out.mkdir()
    prompts = [(ChatMessage("user", f"question {n}"),) for n in range(10)]
    replies = [(ChatMessage("assistant", text),) for text in ("good answer", "no idea")]
    write_jsonl(
        out / "pairs.jsonl",
        [
            PreferencePair(str(n), str(n), "c", 1, "drift", 1, "x", p, replies[0], replies[1])
            for n, p in enumerate(prompts)
        ],
    )
    notes: list[str] = []
    with listening(lambda *_: None, notes.append):
        measure_reference(out / "reference", (start,), out / "pairs.jsonl", ReferenceSettings.of(SETTINGS, policy))
        train(out / "policy", start, out / "reference", out / "pairs.jsonl", SETTINGS, policy, 1)
    return out / "policy", notes


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def is_other(name: str) -> bool:
    return any(part in name for part in ("vis", "projector"))


def test_the_language_model_is_trained_and_the_rest_is_kept(checkpoint, tmp_path):
    policy, notes = trained(checkpoint, tmp_path / "out", PolicySettings())
    before, after = weights(checkpoint), weights(policy)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any(map(is_other, moved)), moved
    others = sum(tensor.numel() for name, tensor in before.items() if is_other(name))
    assert f"{others:,} weights outside the language model are kept as they are" in notes
    for name, content in PROCESSOR.items():
        assert (policy / name).read_text() == content
    reloaded = AutoModelForImageTextToText.from_pretrained(policy)
    assert type(reloaded).__name__ == f"{checkpoint.name}ForConditionalGeneration"
    assert reloaded.config.architectures == [type(reloaded).__name__]
    assert parameter_count(policy) == reloaded.num_parameters()


def test_an_adapter_leaves_the_rest_alone(checkpoint, tmp_path):
    settings = PolicySettings(lora=LoraSettings(r=2, alpha=4))
    policy, _ = trained(checkpoint, tmp_path / "out", settings)
    adapter = load_file(policy / "adapter_model.safetensors")
    assert adapter
    assert all("language_model" in name for name in adapter)
    loaded = load_policy(policy, settings)
    assert all("language_model" in name for name, _ in loaded.model.named_parameters() if "lora_" in name)
    named = PolicySettings(lora=LoraSettings(r=2, alpha=4, target_modules=["q_proj", "qkv", "proj", "up_proj"]))
    policy, _ = trained(checkpoint, tmp_path / "named", named)
    assert all("language_model" in name for name in load_file(policy / "adapter_model.safetensors"))
    assert (policy / "preprocessor_config.json").read_text() == PROCESSOR["preprocessor_config.json"]


def test_an_adapter_on_no_layer_of_the_language_model_says_which_there_are(checkpoint, tmp_path):
    settings = PolicySettings(lora=LoraSettings(r=2, alpha=4, target_modules=["vision_proj"]))
    with pytest.raises(PrerequisiteError, match=r"no layer of the language model is named .*up_proj.*all-linear"):
        trained(checkpoint, tmp_path / "out", settings)


def test_a_chat_template_of_the_processor_alone_is_used(checkpoint):
    template = (checkpoint / "chat_template.jinja").read_text()
    (checkpoint / "chat_template.jinja").unlink()
    with pytest.raises(PrerequisiteError, match="no chat template"):
        load_policy(checkpoint, PolicySettings())
    (checkpoint / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load_policy(checkpoint, PolicySettings()).tokenizer.chat_template == template


def test_facts_and_replies(checkpoint):
    policy = load_policy(checkpoint, PolicySettings())
    assert policy.context_length == 640
    assert policy.stop_ids == {2}
    prompts = [(10, 11, 12, 13), (20, 21)]
    greedy = SamplingSettings(temperature=0.0, max_new_tokens=20)
    replies = generate(policy, prompts, ["a", "b"], greedy)
    model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint)
    for prompt, reply in zip(prompts, replies, strict=True):
        expected = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[0, len(prompt) :]
        assert reply.token_ids == tuple(expected.tolist())


def test_a_reply_is_the_same_in_a_batch_that_others_leave_and_beside_another_sample(checkpoint):
    policy = load_policy(checkpoint, PolicySettings())
    prompts = [*((10 + n, 11, 12 + n) for n in range(7)), (10, 11, 12)]
    keys = [str(n) for n in range(8)]
    settings = SamplingSettings(temperature=1.0, top_p=1.0, max_new_tokens=300)
    together = generate(policy, prompts, keys, settings)
    assert len({len(reply.token_ids or ()) for reply in together}) > 2
    shortest = sorted(range(8), key=lambda row: len(together[row].token_ids or ()))[:3]
    for row in shortest:
        assert generate(policy, [prompts[row]], [keys[row]], settings) == [together[row]]


def test_packed_rows_are_exact_or_refused(checkpoint):
    packing = choose_packing(load_policy(checkpoint, PolicySettings()).model)
    recurrent = checkpoint.name == "Qwen3_5"
    assert packing.shared is not recurrent, packing.why
    assert not recurrent or "does not support another attention" in packing.why


def test_a_text_model_has_no_other_parts(tiny_policy):
    model = load_policy(tiny_policy, PolicySettings()).model
    assert isinstance(model, PreTrainedModel)
    assert language_model(model) is None
    assert load_policy(tiny_policy, PolicySettings()).processor_files == {}


def test_a_processor_file_that_is_no_json_is_left_out(tiny_policy, tmp_path):
    folder = shutil.copytree(tiny_policy, tmp_path / "model")
    (folder / "processor_config.json").write_text("no such thing")
    (folder / "preprocessor_config.json").write_text("{}")
    assert load_policy(folder, PolicySettings()).processor_files == {"preprocessor_config.json": b"{}"}
