"""Hashes of what a stage's result depends on: the content of its inputs, the code and the packages."""

import hashlib
import inspect
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, runtime_checkable

import orjson
from pydantic import BaseModel

import drift
from drift.disk import files_under
from drift.errors import DataError
from drift.records import Counts

Inputs = ParamSpec("Inputs")
StageFunction = Callable[Concatenate[Path, Inputs], Counts]
"""A stage: `fn(out, *inputs)` writes the file or folder `out` and returns counts."""

PACKAGES = (
    *("torch", "transformers", "tokenizers", "accelerate", "peft", "safetensors", "gguf"),
    *("numpy", "scikit-learn", "duckdb", "pyarrow", "pydantic", "orjson"),
)


@runtime_checkable
class Fingerprinted(Protocol):
    """An input that returns a hash of everything that a stage can read through it."""

    def fingerprint(self) -> str: ...


@dataclass(frozen=True, slots=True)
class StageInput:
    """One argument of a stage: `value` is for people, `fingerprint` is what the stage's key depends on."""

    value: Any
    fingerprint: str


class Digests:
    """sha256 of files. A file is read again only if its inode, size or time changed, because models are large."""

    def __init__(self) -> None:
        self._digests: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def file(self, path: Path) -> str:
        status = path.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._digests.get(path, (None,))[0] != stamp:
            with path.open("rb") as handle:
                self._digests[path] = (stamp, hashlib.file_digest(handle, "sha256").hexdigest())
        return self._digests[path][1]

    def content(self, path: Path) -> str:
        """Hash of a file, or of the names and files of a folder. Raises DataError if neither exists."""
        if path.is_file():
            return self.file(path)
        if not path.is_dir():
            raise DataError(f"{path}: no such file or folder; a stage reads it. Check the paths in the config.")
        return sha256("folder", *(f"{name}={digest}" for name, digest in self.under(path, [""]).items()))

    def under(self, folder: Path, names: Iterable[str]) -> dict[str, str]:
        """Hashes of the files at or under these entries of `folder`, by path relative to `folder`."""
        files = [file for name in sorted(names) for file in files_under(folder / name)]
        return {file.relative_to(folder).as_posix(): self.file(file) for file in files}


def describe_inputs(
    fn: StageFunction[Inputs], root: Path, digests: Digests, *args: Inputs.args, **kwargs: Inputs.kwargs
) -> dict[str, StageInput]:
    """Every input of `fn(out, *args, **kwargs)` by the name of its parameter, in the order of the parameters.

    Paths inside `root` are shown relative to it. Raises TypeError if `fn` has hidden inputs (a closure, a bound
    method), if the inputs do not match its parameters, or if an input cannot be hashed.
    """
    plain = inspect.unwrap(fn)
    if not inspect.isfunction(plain) or plain.__closure__:
        raise TypeError(f"{fn!r} is not a plain function: everything it reads must be one of the stage's inputs")
    bound = inspect.signature(fn).bind(None, *args, **kwargs).arguments
    inputs = list(bound.items())[1:]  # the first is `out`
    return {name: _describe(value, root, digests) for name, value in inputs}


def stage_key(name: str, fn: StageFunction[...], inputs: Mapping[str, StageInput]) -> str:
    """A hash of everything that the stage's result depends on."""
    parts = [f"{parameter}={value.fingerprint}" for parameter, value in inputs.items()]
    packages = [f"{package}={version}" for package, version in package_versions().items()]
    return sha256(name, qualified_name(fn), *parts, code_version(), *packages)


def qualified_name(fn: StageFunction[...]) -> str:
    return f"{fn.__module__}.{fn.__qualname__}"


@cache
def code_version() -> str:
    """drift's version and a hash of its Python files."""
    package = Path(drift.__file__).parent
    files = sorted(package.rglob("*.py"))
    return f"{drift.__version__}+{sha256(*(f'{file.relative_to(package)}={file.read_text()}' for file in files))[:12]}"


@cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a result, from their metadata: nothing is imported."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # belongs to an extra that is not installed
    return versions


def sha256(*parts: str) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _describe(value: object, root: Path, digests: Digests) -> StageInput:
    if isinstance(value, Path):
        path = value.relative_to(root) if value.is_relative_to(root) else value.absolute()
        return StageInput(path.as_posix(), digests.content(value))
    if isinstance(value, BaseModel):
        return StageInput(value.model_dump(mode="json"), sha256(type(value).__name__, value.model_dump_json()))
    if isinstance(value, tuple):
        parts = [_describe(part, root, digests) for part in value]
        return StageInput([part.value for part in parts], sha256("tuple", *(part.fingerprint for part in parts)))
    if value is None or isinstance(value, str | int | float):
        return StageInput(value, sha256(type(value).__name__, repr(value)))
    if isinstance(value, Fingerprinted):
        return StageInput(type(value).__name__, value.fingerprint())
    raise TypeError(f"a stage cannot depend on a {type(value).__name__}: give it a fingerprint() method")
