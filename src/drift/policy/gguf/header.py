"""What a GGUF file says of itself, read and checked without its vocabulary and its weights."""

import struct
from dataclasses import dataclass
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path

from drift.errors import PrerequisiteError
from drift.policy.source import MAGIC

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
# the format's codes of value types; of a number, the letter that `struct` has for it
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_LONGEST_LIST = 1024  # a number per layer or frequency; the vocabulary's lists are longer


def unusable(file: Path, why: str) -> PrerequisiteError:
    """The error of a file that cannot be loaded."""
    return PrerequisiteError(
        f"{file}: the GGUF file cannot be loaded ({why}). Set policy.model to another GGUF file, or to the folder of "
        "the original model with config.json and *.safetensors."
    )


@dataclass(frozen=True, slots=True)
class Tensor:
    """`kind`: GGML's code of the quantisation. `offset`: bytes from `data_start` of the header."""

    name: str
    elements: int
    kind: int
    offset: int

    @property
    def bytes(self) -> int:
        """Its size in the file, where it is stored in blocks of as many elements as its quantisation has."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(self.kind)]
        return self.elements // block * size


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a GGUF file (github.com/ggml-org/ggml, docs/gguf.md).

    `settings`: the metadata of the architecture, by their names without it: numbers, texts and short lists of numbers.
    `parts`: of how many files this is one. `data_start`: the position of the first tensor in the file, in bytes.
    The package's own reader takes seconds for a vocabulary, and fails in as many ways as a file can be cut.
    """

    settings: dict[str, object]
    parts: int
    tensors: tuple[Tensor, ...]
    data_start: int

    @classmethod
    def read(cls, content: mmap) -> "Header":
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
            infos.append(Tensor(name, prod(shape), *cursor.take("<IQ")))
        align = int(str(kept.get("general.alignment", 32)))
        start = -(-cursor.position // align) * align
        prefix = f"{kept.get('general.architecture')}."
        settings = {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}
        return cls(settings, int(str(kept.get("split.count", 1))), tuple(infos), start)


def read_header(file: Path) -> Header:
    """Raises PrerequisiteError if the file's header is damaged, its tensors are cut off, or it is one of several."""
    try:
        with file.open("rb") as handle, mmap(handle.fileno(), 0, access=ACCESS_READ) as content:
            header = Header.read(content)
        ends = {tensor.name: header.data_start + tensor.offset + tensor.bytes for tensor in header.tensors}
    except _BROKEN as error:
        raise unusable(file, f"its header is damaged or cut: {error}") from None
    if header.parts > 1:
        raise unusable(file, f"it is one of {header.parts} parts; join them: llama-gguf-split --merge FIRST OUT.gguf")
    size = file.stat().st_size
    cut = [name for name, end in ends.items() if end > size]
    if cut or not ends:
        why = f"{len(cut)} of {len(ends)} tensors lie behind its end, as after a download that broke off"
        raise unusable(file, why if cut else "it holds no weights")
    return header


def read_numbers(file: Path, header: Header, name: str) -> list[float] | None:
    """The numbers of a small tensor; None if the file has none of that name."""
    import numpy as np
    from gguf import GGMLQuantizationType, dequantize

    tensor = next((tensor for tensor in header.tensors if tensor.name == name), None)
    if tensor is None:
        return None
    with file.open("rb") as handle:
        handle.seek(header.data_start + tensor.offset)
        raw = np.frombuffer(handle.read(tensor.bytes), dtype=np.uint8)
    return dequantize(raw, GGMLQuantizationType(tensor.kind)).tolist()


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
        """The next value, of the type with the code `kind`: a number, a text or a short list of numbers.

        None for any other list, which is skipped.
        """
        if kind in _NUMBERS:
            return self.take(f"<{_NUMBERS[kind]}")[0]
        if kind == _TEXT:
            return self.text()
        if kind != _LIST:
            raise ValueError(f"a value of unknown type {kind}")
        inner, count = self.take("<IQ")
        if inner in _NUMBERS and count <= _LONGEST_LIST:
            return list(self.take(f"<{count}{_NUMBERS[inner]}"))
        if inner in _NUMBERS:
            self.position += count * struct.calcsize(_NUMBERS[inner])
            return None
        for _ in range(count):
            self.value(inner)
        return None
