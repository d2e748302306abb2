"""A GGUF file for llama.cpp and Ollama, made by llama.cpp's own converter: the formats of models change with it."""

import shutil
import subprocess
import sys
from pathlib import Path

from drift.errors import PrerequisiteError
from drift.policy.source import MAGIC

GGUF = "model.gguf"
SCRIPT = "convert_hf_to_gguf.py"
_LAST_CHARACTERS = 300


def find_converter(named: Path | None) -> Path:
    """The converter: the file that was named, else the one on the PATH. Raises PrerequisiteError with the commands."""
    if named is not None:
        if not named.is_file():
            raise PrerequisiteError(f"--converter {named}: no such file. Name llama.cpp's {SCRIPT}. {_how()}")
        return named
    on_path = shutil.which(SCRIPT)
    if on_path is None:
        raise PrerequisiteError(f"--gguf needs llama.cpp's converter, and no {SCRIPT} is on the PATH. {_how()}")
    return Path(on_path)


def convert(converter: Path, model: Path) -> Path:
    """Write `model`/model.gguf in 16 bits per weight, or in the type of the weights if they have fewer.

    Raises PrerequisiteError with the end of what the converter printed, and the command to run it by hand.
    """
    out = model / GGUF
    out.unlink(missing_ok=True)  # what an earlier converter wrote is not this one's
    command = [sys.executable, str(converter), str(model), "--outfile", str(out), "--outtype", "auto"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not _begins_as_gguf(out):
        out.unlink(missing_ok=True)
        printed = " ".join((done.stderr or done.stdout).split())[-_LAST_CHARACTERS:] or "it printed nothing"
        what = f"failed with status {done.returncode}" if done.returncode else "ended with 0 and wrote no GGUF file"
        raise PrerequisiteError(
            f"{converter} {what}: ...{printed} The rest of the export is in {model.parent}. "
            f"To try again: {' '.join(command)}"
        )
    return out


def _begins_as_gguf(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as handle:
        return handle.read(len(MAGIC)) == MAGIC


def _how() -> str:
    return (
        "git clone --depth 1 https://github.com/ggml-org/llama.cpp, then add "
        f"--converter llama.cpp/{SCRIPT} to this command."
    )
