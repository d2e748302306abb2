"""How many weights a model has, without loading it or asking a server."""

import json
import math
import re
from importlib.util import find_spec
from pathlib import Path

from drift.policy.source import adapter_settings, is_adapter, is_gguf, resolve_source

_IN_A_NAME = re.compile(r"(?<![\dxX.])(\d+(?:\.\d+)?)([bBmM])(?![a-zA-Z])")
_UNITS = {"b": 1e9, "m": 1e6}
_HEADER_BYTES = 8


def count_weights(model: str) -> tuple[float | None, str]:
    """The number of weights, None if it is not known, and how it is known.

    Raises PrerequisiteError for a path without a model.
    """
    source = resolve_source(model)
    folder = Path(source)
    if is_gguf(folder):
        return _of_gguf(folder), "counted in its file"
    if not folder.is_dir():
        folder = _downloaded(source) or folder
    if is_adapter(folder):
        base = adapter_settings(folder).get("base_model_name_or_path")
        return count_weights(str(base)) if base else (None, "the adapter names no base")
    if files := sorted(folder.glob("*.safetensors")):
        return float(sum(map(_of_safetensors, files))), "counted in its files"
    if match := _IN_A_NAME.search(source.rpartition("/")[2]):
        return float(match.group(1)) * _UNITS[match.group(2).lower()], "read from its name; it is not on this machine"
    return None, "not known: the model is not on this machine, and its name has no size"


def _downloaded(hub_id: str) -> Path | None:
    """The folder of a hub id in the cache of Hugging Face."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def _of_safetensors(file: Path) -> int:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_HEADER_BYTES), "little")
        header = json.loads(opened.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _of_gguf(file: Path) -> float:
    from gguf import GGUFReader

    return float(sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors))
