"""What a policy's name means: a folder, an adapter, a GGUF file or a hub id. Nothing here loads torch."""

import json
from pathlib import Path
from typing import Any

from drift.errors import PrerequisiteError
from drift.rundir import layout

ADAPTER = "adapter_config.json"
SUFFIX, MAGIC = ".gguf", b"GGUF"
CHECKPOINTS = Path(__file__).resolve().parents[1] / "sandbox" / "checkpoints"
EMBEDDED = {"embedded": "base-1", "embedded-2": "base-2", "embedded-3": "base-3", "embedded-long": "long-1"}


def resolve_source(source: str | Path) -> str:
    """The folder, GGUF file or hub id that a policy's name means.

    Raises PrerequisiteError for a path that does not exist or holds no model. A hub id is not looked up.
    """
    name = str(source)
    if name in EMBEDDED:
        return str(CHECKPOINTS / EMBEDDED[name])
    path = Path(name).expanduser()
    if path.is_dir():
        if any((path / config).is_file() for config in ("config.json", ADAPTER)):
            return str(path.resolve())
        files = sorted(file.name for file in path.glob(f"*{SUFFIX}"))
        raise no_model(name, f"the folder has no config.json{f', but {files[0]}: name that file' if files else ''}")
    if is_gguf(path):
        if not path.exists():
            raise no_model(name, "no such file")
        check_gguf(path)
        return str(path.absolute())
    if path.exists() or isinstance(source, Path) or name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise no_model(name, "it is a file" if path.exists() else "no such folder")
    return name


def is_adapter(source: str | Path) -> bool:
    """Whether this is a folder with a peft adapter, which has no weights without those of its base."""
    return (Path(source).expanduser() / ADAPTER).is_file()


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What a peft adapter's file says of it: its base, and of LoRA `r`, `lora_alpha` and `target_modules`.

    Raises PrerequisiteError if it cannot be read.
    """
    file = folder.expanduser() / ADAPTER
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrerequisiteError(f"{file}: cannot be read ({error}). Train or download the adapter again.") from None
    return settings if isinstance(settings, dict) else {}


def base_of_adapter(folder: Path) -> str:
    """The folder, file or hub id of the model that a peft adapter was trained on.

    The adapter names it by its path at training time. A run or export that has moved since still contains the base that
    it unpacked, so the two folders above the adapter are searched. Raises PrerequisiteError if it is in neither, or if
    the adapter names no base.
    """
    base = adapter_settings(folder).get("base_model_name_or_path")
    if not isinstance(base, str):
        raise PrerequisiteError(
            f"{folder / ADAPTER}: names no base model. Set base_model_name_or_path there to the folder or the Hugging "
            "Face id of the model that the adapter was trained on."
        )
    if not Path(base).is_absolute() or Path(base).exists():
        return base
    candidates = (parent / layout.BASE_MODEL for parent in folder.resolve().parents[:2])
    moved = next((candidate for candidate in candidates if candidate.is_dir()), None)
    if moved is None:
        raise PrerequisiteError(
            f"{folder}: the adapter's base model {base} is gone. Put it there again, or set base_model_name_or_path in "
            f"{folder / ADAPTER} to where it is now."
        )
    return str(moved)


def is_gguf(source: str | Path) -> bool:
    """Whether this is a GGUF file, by its name or by its first bytes: Ollama's files have no suffix."""
    path = Path(source)
    return path.suffix.lower() == SUFFIX or (path.is_file() and _head(path) == MAGIC)


def check_gguf(file: Path) -> None:
    """Raises PrerequisiteError if the file does not begin as a GGUF file, or the package `gguf` is missing."""
    head = _head(file)
    if head != MAGIC:
        raise PrerequisiteError(
            f"{file}: not a GGUF file (it begins with {head!r}, not {MAGIC!r}). Download it again, or set "
            "policy.model to another model."
        )
    _require_package()


def _head(file: Path) -> bytes:
    """The first four bytes, or fewer of a shorter file. Raises PrerequisiteError if the file cannot be read."""
    try:
        with file.open("rb") as handle:
            return handle.read(len(MAGIC))
    except OSError as error:
        raise PrerequisiteError(f"{file}: cannot be read ({error.strerror}). Check policy.model.") from None


def _require_package() -> None:
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise PrerequisiteError(
            "A GGUF file needs the package gguf: pip install 'drift-training[train]' (or pip install gguf)."
        ) from None


def no_model(source: str, why: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"{source}: the model cannot be loaded ({why}). Set policy.model (or --model) to a folder with config.json and "
        "*.safetensors, a GGUF file, a Hugging Face id that is downloaded or reachable, or 'embedded'."
    )
