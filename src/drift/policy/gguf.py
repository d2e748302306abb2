"""A model in one GGUF file, as llama.cpp and Ollama store it: transformers dequantises it into an ordinary model.

Rounding to 4 bits is not undone: the weights are those of the file, as floats that can be trained.
"""

import io
import struct
from contextlib import redirect_stderr
from dataclasses import dataclass
from math import prod
from mmap import ACCESS_READ, mmap
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
from drift.policy.source import MAGIC, check_gguf
from drift.progress import report_note

_BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    struct.error,
    MemoryError,
    RecursionError,
)
"""What reading a damaged file can raise."""
_ROPE_FACTORS = "rope_freqs.weight"
# the format's codes of value types; of a number, the letter that `struct` has for it
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9


def config_of_gguf(file: Path) -> PreTrainedConfig:
    """The config that transformers makes of the file's header. Raises PrerequisiteError as `load_gguf` does."""
    check_gguf(file)
    _check_content(file)
    try:
        return AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
    except Exception as error:  # the libraries raise anything here
        raise _unusable(file, " ".join(str(error).split())[:200] or type(error).__name__) from None


def load_gguf(file: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, in `dtype` on the CPU, and the tokenizer with the chat template that stands in the file.

    Raises PrerequisiteError if the file is damaged or cut, or transformers does not know its architecture or a tensor.
    """
    check_gguf(file)
    _check_content(file)
    place = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar that cannot be switched off
            tokenizer = _reloaded(AutoTokenizer.from_pretrained(str(file.parent), **place))
            # without `dequantize`, weights stay packed where transformers has kernels, and cannot be trained
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(file.parent),
                dtype=dtype,
                output_loading_info=True,
                quantization_config=GgufConfig(dequantize=True),
                **place,
            )
    except Exception as error:  # the libraries raise anything here, tokenizers a plain Exception
        raise _unusable(file, " ".join(str(error).split())[:200] or type(error).__name__) from None
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise _unusable(file, f"it has no weights for {len(missing)} of the model's tensors, such as {missing[0]}")
    return _unquantised(model, file), tokenizer


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


def _check_content(file: Path) -> None:
    """Raises PrerequisiteError if the file's header is damaged, its tensors are cut off, or it is one of several."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        with file.open("rb") as handle, mmap(handle.fileno(), 0, access=ACCESS_READ) as content:
            header = _Header.read(content)
        ends = {
            tensor.name: header.data_start
            + tensor.offset
            + _bytes(tensor.elements, *GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)])
            for tensor in header.tensors
        }
    except _BROKEN as error:
        raise _unusable(file, f"its header is damaged or cut: {error}") from None
    if header.parts > 1:
        raise _unusable(file, f"it is one of {header.parts} parts; join them: llama-gguf-split --merge FIRST OUT.gguf")
    size = file.stat().st_size
    cut = [name for name, end in ends.items() if end > size]
    if cut or not ends:
        why = f"{len(cut)} of {len(ends)} tensors lie behind its end, as after a download that broke off"
        raise _unusable(file, why if cut else "it holds no weights")
    if _ROPE_FACTORS in ends:
        report_note(
            f"{file}: transformers does not read its {_ROPE_FACTORS}, so positions are encoded without the RoPE "
            "scaling of the original model, which matters for long prompts"
        )


@dataclass(frozen=True, slots=True)
class _Tensor:
    """`kind`: GGML's code of the quantisation. `offset`: bytes from `data_start` of the header."""

    name: str
    elements: int
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Header:
    """What a GGUF file says of itself (github.com/ggml-org/ggml, docs/gguf.md), without its vocabulary.

    `parts`: of how many files this is one. `data_start`: the position of the first tensor in the file, in bytes.
    The package's own reader takes seconds for a vocabulary, and fails in as many ways as a file can be cut.
    """

    parts: int
    tensors: tuple[_Tensor, ...]
    data_start: int

    @classmethod
    def read(cls, content: mmap) -> "_Header":
        """Raises one of _BROKEN for anything that is not a complete header."""
        cursor = _Cursor(content, len(MAGIC))
        version, tensors, fields = cursor.take("<IQQ")
        if version not in (2, 3):
            raise ValueError(f"GGUF version {version}, expected 2 or 3")
        kept: dict[str, object] = {}
        for _ in range(fields):
            name = cursor.text()
            kept[name] = cursor.value(*cursor.take("<I"))
        infos = []
        for _ in range(tensors):
            name = cursor.text()
            shape = cursor.take(f"<{cursor.take('<I')[0]}Q")
            infos.append(_Tensor(name, prod(shape), *cursor.take("<IQ")))
        align = int(str(kept.get("general.alignment", 32)))
        start = -(-cursor.position // align) * align
        return cls(int(str(kept.get("split.count", 1))), tuple(infos), start)


class _Cursor:
    """Reads values in a row. A value that reaches behind the end of the file is a struct.error."""

    def __init__(self, content: mmap, position: int) -> None:
        self.content = content
        self.position = position

    def take(self, form: str) -> tuple[int, ...]:
        """The next values, of a format of `struct`."""
        values = struct.unpack_from(form, self.content, self.position)
        self.position += struct.calcsize(form)
        return values

    def text(self) -> str:
        """The next text: its length in bytes, and that many bytes of UTF-8."""
        (length,) = self.take("<Q")
        if self.position + length > len(self.content):
            raise ValueError("a text reaches behind the end of the file")
        self.position += length
        return self.content[self.position - length : self.position].decode()

    def value(self, kind: int) -> object:
        """The next value, of the type with the code `kind`: a number or text; None for a list, which is skipped."""
        if kind in _NUMBERS:
            return self.take(f"<{_NUMBERS[kind]}")[0]
        if kind == _TEXT:
            return self.text()
        if kind != _LIST:
            raise ValueError(f"a value of unknown type {kind}")
        inner, count = self.take("<IQ")
        if inner in _NUMBERS:
            self.position += count * struct.calcsize(_NUMBERS[inner])
            return None
        for _ in range(count):
            self.value(inner)
        return None


def _bytes(elements: int, block: int, size: int) -> int:
    """Bytes of a tensor that is stored in blocks of `block` elements, `size` bytes each."""
    return elements // block * size


def _unusable(file: Path, why: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"{file}: the GGUF file cannot be loaded ({why}). Set policy.model to another GGUF file, or to the folder of "
        "the original model with config.json and *.safetensors."
    )
