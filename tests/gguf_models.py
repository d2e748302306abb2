"""GGUF files of tiny random models, written as llama.cpp's `convert_hf_to_gguf.py` writes those architectures."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import PreTrainedModel

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 1024,
    "initializer_range": 0.08,
    "tie_word_embeddings": True,
}
"""Of a config."""
HEADER = {
    "context_length": 1024,
    "embedding_length": 64,
    "block_count": 2,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}
"""The same of a file."""
_NORMS_PLUS_ONE = {"gemma2", "gemma3", "nemotron"}


def write_model(
    path: Path, model: PreTrainedModel, architecture: str, tokenizer: Path, fields: dict[str, object], **tensors
) -> Path:
    """`fields`: metadata under the architecture's name, over HEADER. `tensors`: values of further ones, without
    `.weight` in their names."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in {**HEADER, **fields}.items():
        kinds.get(type(value), writer.add_array)(f"{architecture}.{key}", value)
    add_tokenizer(writer, tokenizer, of_gemma=architecture.startswith("gemma"))
    for name, tensor in _tensors(model, architecture):
        writer.add_tensor(name, tensor.contiguous().numpy())
    for name, values in tensors.items():
        writer.add_tensor(f"{name}.weight", torch.tensor(values).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer, folder: Path, of_gemma: bool = False) -> None:
    """The byte tokenizer of `tiny_policy`. transformers makes Gemma's of scores and its marks."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    writer.add_tokenizer_model("llama" if of_gemma else "gpt2")
    writer.add_tokenizer_pre("default" if of_gemma else "qwen2")
    # transformers needs a merge: one of bytes that no text has, in place of the token of another such byte
    writer.add_token_list(["ÀÁ" if token == "ÿ" else token for token in vocabulary])
    writer.add_token_merges(["À Á"])
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocabulary])
    writer.add_eos_token_id(vocabulary["<|im_end|>"])
    writer.add_pad_token_id(vocabulary["<|pad|>"])
    if of_gemma:
        writer.add_token_scores([0.0] * len(vocabulary))
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
    writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))


def _tensors(model: PreTrainedModel, architecture: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The names and the changes of the converter."""
    import gguf

    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        if stem == "lm_head":  # tied
            continue
        if leaf == "gate_up_proj":  # of all experts; a file has a tensor for each of the two
            for half, part in zip(("gate", "up"), tensor.chunk(2, dim=1), strict=True):
                yield f"blk.{name.split('.')[2]}.ffn_{half}_exps.weight", part
            continue
        if leaf == "down_proj":
            stem, leaf = name, "weight"
        there = f"{names.get_name(stem)}.{leaf}"
        if architecture in _NORMS_PLUS_ONE and there.endswith("norm.weight"):
            tensor = tensor + 1
        if architecture == "llama" and there.rpartition(".")[0].endswith(("attn_q", "attn_k")):
            heads = model.config.num_attention_heads if "attn_q" in there else model.config.num_key_value_heads
            tensor = tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)
        yield there, tensor.squeeze()
