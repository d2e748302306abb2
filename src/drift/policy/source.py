"""What a policy's name means: a folder, a GGUF file or a hub id. Nothing here loads torch."""

from pathlib import Path

from drift.errors import PrerequisiteError

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
