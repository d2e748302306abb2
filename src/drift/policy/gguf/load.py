"""A model in one GGUF file, as llama.cpp and Ollama store it: transformers dequantises it into an ordinary model.

Rounding to 4 bits is not undone: the weights are those of the file, as floats that can be trained.
"""

import io
import re
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from drift.errors import PrerequisiteError
from drift.policy.gguf.header import Header, read_header, unusable
from drift.policy.gguf.settings import complete_config
from drift.policy.source import check_gguf

_LAYER = re.compile(r"blk\.(\d+)\.")


def config_of_gguf(file: Path) -> PreTrainedConfig:
    """The config of the file's header. Raises PrerequisiteError as `load_gguf` does."""
    check_gguf(file)
    return _config(file, read_header(file))


def _config(file: Path, header: Header) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
        return complete_config(config, file, header)
    except PrerequisiteError:
        raise
    except Exception as error:  # the libraries raise anything here
        raise unusable(file, " ".join(str(error).split())[:200] or type(error).__name__) from None


def load_gguf(file: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, in `dtype` on the CPU, and the tokenizer with the chat template that stands in the file.

    Raises PrerequisiteError if the file is damaged or cut, or transformers does not know its architecture, a setting
    or a tensor.
    """
    check_gguf(file)
    header = read_header(file)
    config = _config(file, header)
    place = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar that cannot be switched off
            tokenizer = _reloaded(AutoTokenizer.from_pretrained(str(file.parent), **place))
            # without `dequantize`, weights stay packed where transformers has kernels, and cannot be trained
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(file.parent),
                config=config,
                dtype=dtype,
                output_loading_info=True,
                quantization_config=GgufConfig(dequantize=True),
                **place,
            )
    except Exception as error:  # the libraries raise anything here, tokenizers a plain Exception
        raise unusable(file, " ".join(str(error).split())[:200] or type(error).__name__) from None
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise unusable(file, f"it has no weights for {len(missing)} of the model's tensors, such as {missing[0]}")
    _check_all_is_read(model, header, file)
    return _unquantised(model, file), tokenizer


def _check_all_is_read(model: PreTrainedModel, header: Header, file: Path) -> None:
    """Raises PrerequisiteError if transformers dropped tensors, biases for instance, for which the model has no place.

    Those it may drop: RoPE's factors (they are in the config), a second copy of tied embeddings, the layers that
    predict further tokens, and the towers for images and sound.
    """
    weights = {tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}
    dropped = ("rope_", "v.", "a.", "mm.", *(["output.weight"] if model.config.tie_word_embeddings else []))
    layers = model.config.num_hidden_layers
    stored = 0
    for tensor in header.tensors:
        layer = _LAYER.match(tensor.name)
        if not tensor.name.startswith(dropped) and (layer is None or int(layer[1]) < layers):
            stored += tensor.elements
    if (spare := stored - sum(weights.values())) > 0:
        raise unusable(file, f"{type(model).__name__} has no place for {spare:,} of the numbers in its tensors")


def _reloaded(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, saved and loaded again: that of some models (Qwen 2) normalises texts only after that."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _unquantised(loaded: PreTrainedModel, file: Path) -> PreTrainedModel:
    """The same weights in a model that is not marked as quantised: `save_pretrained` refuses to write one that is."""
    config = loaded.config
    vars(config).pop("quantization_config", None)
    with torch.device("meta"):
        model = type(loaded)._from_config(config, dtype=loaded.dtype)
    # buffers that are not saved, such as the frequencies of RoPE, are the loaded model's too
    model.load_state_dict(loaded.state_dict(), assign=True)
    for name, buffer in loaded.named_buffers():
        parent, _, leaf = name.rpartition(".")
        model.get_submodule(parent).register_buffer(leaf, buffer, persistent=name in loaded.state_dict())
    model.tie_weights()
    model.generation_config = loaded.generation_config
    model.config._name_or_path = model.name_or_path = str(file)  # an adapter names its base by it
    return model
